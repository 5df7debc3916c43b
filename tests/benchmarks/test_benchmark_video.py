"""What whole-video inference keeps of a frame, against the bytes of the features that it cannot do without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from syncvis.config import resolve
from syncvis.methods import build
from syncvis.structures import ClipBatch
from syncvis.training.inference import predict_chunks

HEIGHT, WIDTH, CHANNELS = 192, 320, 64
FEW, MANY = 8, 24
CELLS = [HEIGHT * WIDTH // stride**2 for stride in (4, 8, 16, 32)]
FULL = 4 * CHANNELS
"""Bytes of a cell."""
MASK, LEVELS, COARSE = CELLS[0] * FULL, sum(CELLS[1:]) * FULL, sum(CELLS[2:]) * FULL

VIDEOS: dict[str, tuple[dict[str, Any], float]] = {
    "video_only": ({"method": {"structure": "video_only"}, "sync": None}, MASK + LEVELS + COARSE),
    "synchronous": ({}, MASK + LEVELS + COARSE),
    "mask_similarity": ({"sync": {"aggregation": "mask_similarity"}}, MASK + LEVELS + COARSE),
    "half": ({"eval": {"features": "half"}}, (MASK + LEVELS + COARSE) / 2),
    "cascade": ({"method": {"structure": "cascade"}, "sync": None}, MASK),
    "tmt_vis": ({"method": {"name": "tmt_vis", "text": "learned"}}, MASK + LEVELS + COARSE),
    "vita": ({"method": {"name": "vita"}, "sync": None}, MASK),
    "vita with an exchange": ({"method": {"name": "vita"}}, MASK + 2 * LEVELS),
    "minvis": ({"method": {"name": "minvis"}, "sync": None, "subclips": None}, MASK),
    "minvis, half": (
        {"method": {"name": "minvis"}, "sync": None, "subclips": None, "eval": {"features": "half"}},
        MASK / 2,
    ),
    "ctvis": ({"method": {"name": "ctvis"}, "sync": None, "subclips": None}, MASK),
}
"""Changes to the config, and bytes that must wait for the last frame: mask features, feature maps and their guides."""


def _chunks(num_frames: int) -> Iterator[ClipBatch]:
    for _ in range(0, num_frames, 2):
        images = torch.rand(1, 2, 3, HEIGHT, WIDTH)
        yield ClipBatch(images, torch.ones_like(images[:, :, 0], dtype=torch.bool))


def _peak(changes: dict[str, Any], num_frames: int, trace: Path) -> int:
    """Most bytes that torch holds at a time for a video, without the weights."""
    decoder = {"layers": 3, "frame_queries": 5, "video_queries": 5, "ffn_dim": 64, "heads": 4}
    pixel_decoder = {"layers": 1, "ffn_dim": 64, "heads": 4}
    backbone = {"name": "tiny", "width": 16}
    sizes = {"hidden_dim": CHANNELS, "mask_dim": CHANNELS, "backbone": backbone}
    model = sizes | {"decoder": decoder, "pixel_decoder": pixel_decoder}
    torch.manual_seed(0)
    config = resolve({"data": {"root": "unused"}, "model": model, "train": {"steps": 1}} | changes, "video")
    method = build(config, 6).eval()
    size = (HEIGHT, WIDTH)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        predict_chunks(method, _chunks(num_frames), size, size, 0, config.eval, torch.device("cpu"))
    profiler.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(("changes", "needed"), VIDEOS.values(), ids=VIDEOS)
def test_a_frame_takes_little_more_than_its_features(changes: dict[str, Any], needed: float, tmp_path: Path) -> None:
    few, many = (_peak(changes, num_frames, tmp_path / "trace.json") for num_frames in (FEW, MANY))
    ratio = (many - few) / (MANY - FEW) / needed
    print(f"kept of a frame: {ratio:.3f} of the bytes of its features")
    assert 0.9 < ratio < 1.1
