"""Time of the parts that are ours, as ratios against a reference that is measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from syncvis.config import resolve
from syncvis.methods import build
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.ops import deform_attn
from syncvis.structures import ClipBatch, ClipTarget

HEIGHT, WIDTH = 256, 448
POINTS = 12544 * HEIGHT * WIDTH // (288 * 512)
"""Sampled points of the losses, as many per pixel as the published recipe has at 288 x 512."""


def _fastest(*works: Callable[[], object], rounds: int = 3) -> list[float]:
    """Least CPU seconds of each, taken in turn; the first round only warms up."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for work, measured in zip(works, seconds, strict=True):
            started = time.process_time()
            work()
            measured.append(time.process_time() - started)
    return [min(measured[1:]) for measured in seconds]


def _model(structure: str, model: dict[str, Any]) -> Mask2FormerVIS:
    tree: dict[str, Any] = {
        "data": {"root": "unused"},
        "model": model,
        "method": {"structure": structure},
        "criterion": {"points": POINTS},
        "train": {"steps": 1},
    }
    if structure == "video_only":
        tree |= {"sync": None, "subclips": None}
    torch.manual_seed(0)
    return build(resolve(tree, structure), 40)


def _batch(num_frames: int) -> ClipBatch:
    masks = torch.zeros(3, num_frames, HEIGHT, WIDTH, dtype=torch.bool)
    for g in range(3):
        masks[g, :, 20 + 40 * g : 90 + 40 * g, 30 + 70 * g : 120 + 70 * g] = True
    target = ClipTarget(torch.tensor([1, 5, 7]), torch.arange(3), masks)
    images = torch.rand(1, num_frames, 3, HEIGHT, WIDTH)
    return ClipBatch(images, torch.ones_like(images[:, :, 0], dtype=torch.bool), (target,))


def _step(model: Mask2FormerVIS, batch: ClipBatch) -> Callable[[], None]:
    def step() -> None:
        torch.stack(list(model.losses(batch).values())).sum().backward()
        model.zero_grad(set_to_none=True)

    return step


def test_a_syncvis_step_costs_little_more_than_a_mask2former_vis_step() -> None:
    """Frame and video branch, exchange and the losses of all sub-clips; at the same T, resolution and backbone."""
    steps = [
        _step(_model(name, {"backbone": {"name": "resnet50"}}), _batch(3)) for name in ("video_only", "synchronous")
    ]
    base, sync = _fastest(*steps, rounds=2)
    print(f"SyncVIS step against Mask2Former-VIS step: {sync / base:.2f}")
    assert sync / base < 1.35


def test_time_grows_linearly_with_the_frames() -> None:
    model = _model("synchronous", {"hidden_dim": 64, "mask_dim": 64, "backbone": {"name": "tiny", "width": 16}})
    two, eight = _fastest(_step(model, _batch(2)), _step(model, _batch(8)), rounds=1)
    print(f"8 frames against 2: {eight / two:.2f}")
    assert eight / two < 4 * 1.6  # quadratic would be 16


def test_sampling_as_a_sparse_product_beats_sampling_level_by_level() -> None:
    torch.manual_seed(0)
    shapes = [(9, 16), (18, 32), (36, 64)]
    length = sum(h * w for h, w in shapes)
    value = torch.randn(1, length, 8, 32, requires_grad=True)
    x, y = (torch.rand(1, length, 8, 3, 4, requires_grad=True) for _ in range(2))
    weights = torch.rand(1, length, 8, 12).softmax(-1).unflatten(-1, (3, 4)).requires_grad_()

    def run(sample: Callable[..., Tensor]) -> None:
        sample(value, shapes, x, y, weights).sum().backward()

    ours, levels = _fastest(
        lambda: run(deform_attn.deformable_attention), lambda: run(deform_attn.sample_by_level), rounds=5
    )
    print(f"sparse product against grid_sample: {ours / levels:.2f}")
    assert ours / levels < 0.8
