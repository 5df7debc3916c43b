"""The estimated memory of a step against what torch allocates in a real one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from syncvis.config import load_config
from syncvis.methods import build
from syncvis.structures import ClipBatch, ClipTarget
from syncvis.training.cost import fake_forward_cost, memory
from syncvis.training.optim import build_optimizer

SMALL = Path(__file__).parents[2] / "experiments" / "base" / "small.yaml"
CLASSES, HEIGHT, WIDTH = 6, 64, 96


def _batch(frames: int) -> ClipBatch:
    masks = torch.zeros(3, frames, HEIGHT, WIDTH, dtype=torch.bool)
    masks[:, :, 10:40, 20:60] = True
    target = ClipTarget(torch.arange(3), torch.arange(3), masks)
    images = torch.rand(1, frames, 3, HEIGHT, WIDTH)
    return ClipBatch(images, torch.ones_like(images[:, :, 0], dtype=torch.bool), (target,))


def _peak(trace: Path) -> int:
    """Most bytes allocated at a time since the profile began."""
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def test_estimated_memory_of_a_step(tmp_path: Path) -> None:
    """Losses and temporary work are not in the estimate, and gradients come one after another."""
    config = load_config(SMALL)
    model = build(config, CLASSES)
    batch = _batch(config.data.frames)
    needed = memory(model, fake_forward_cost(config, CLASSES, 1, (HEIGHT, WIDTH), "cpu"))
    optimizer = build_optimizer(model, config.train)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.stack(list(model.losses(batch).values())).sum().backward()
        optimizer.step()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    real = needed.weights + _peak(tmp_path / "trace.json")
    assert 0.7 * real < needed.total < 1.25 * real
