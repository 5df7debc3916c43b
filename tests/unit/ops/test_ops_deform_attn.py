from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from syncvis.ops.deform_attn import DeformableAttention, deformable_attention, sample_by_level

SHAPES = [(3, 4), (2, 2)]
BATCH, READS, HEADS, DIM, POINTS = 2, 3, 2, 3, 2


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    length = sum(h * w for h, w in SHAPES)
    value = torch.randn(BATCH, length, HEADS, DIM, dtype=torch.double)
    # Some places lie outside the map.
    locations = torch.rand(BATCH, READS, HEADS, len(SHAPES), POINTS, 2, dtype=torch.double) * 1.4 - 0.2
    weights = torch.rand(BATCH, READS, HEADS, len(SHAPES) * POINTS, dtype=torch.double).softmax(-1)
    return value, locations, weights.view(BATCH, READS, HEADS, len(SHAPES), POINTS)


def _bilinear(table: Tensor, height: int, width: int, x: float, y: float) -> Tensor:
    """Value at x, y in [0, 1] of a row-major map (h * w, D); cells outside are zero."""
    column, row = x * width - 0.5, y * height - 0.5
    total = torch.zeros(table.shape[1], dtype=table.dtype)
    for r, c in product((math.floor(row), math.floor(row) + 1), (math.floor(column), math.floor(column) + 1)):
        if 0 <= r < height and 0 <= c < width:
            total += (1 - abs(row - r)) * (1 - abs(column - c)) * table[r * width + c]
    return total


def test_plain_loops_give_the_same() -> None:
    value, locations, weights = _inputs()
    wanted = torch.zeros(BATCH, READS, HEADS, DIM, dtype=torch.double)
    for n, r, head in product(range(BATCH), range(READS), range(HEADS)):
        start = 0
        for level, (h, w) in enumerate(SHAPES):
            table = value[n, start : start + h * w, head]
            start += h * w
            for point in range(POINTS):
                x, y = locations[n, r, head, level, point].tolist()
                wanted[n, r, head] += weights[n, r, head, level, point] * _bilinear(table, h, w, x, y)
    torch.testing.assert_close(deformable_attention(value, SHAPES, *locations.unbind(-1), weights), wanted.flatten(2))


def test_gradients_of_all_inputs() -> None:
    value, locations, weights = (x.requires_grad_() for x in _inputs())
    assert torch.autograd.gradcheck(
        lambda v, p, a: deformable_attention(v, SHAPES, *p.unbind(-1), a), (value, locations, weights)
    )


def test_offsets_start_as_a_ring() -> None:
    """One direction per head; point k lies k cells out in the larger coordinate; the same on all levels."""
    attention = DeformableAttention(dim=8, heads=4, levels=2, points=3)
    assert not attention.sampling_offsets.weight.any()
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    wanted = directions[:, None, None] * torch.arange(1, 4)[None, None, :, None]
    torch.testing.assert_close(offsets, wanted.expand(-1, 2, -1, -1), rtol=0, atol=1e-6)
    eight = DeformableAttention(dim=8, heads=8, levels=1, points=1).sampling_offsets.bias.view(8, 2)
    torch.testing.assert_close(eight[1], torch.tensor([1.0, 1.0]))


def test_offsets_are_counted_in_cells_and_weights_are_even() -> None:
    """Before training every head reads the mean of its points: the reference moved by its offsets."""
    attention = DeformableAttention(dim=2, heads=1, levels=1, points=2).double()
    with torch.no_grad():
        for linear in (attention.value_proj, attention.output_proj):
            linear.weight.copy_(torch.eye(2))
    tokens = torch.arange(12, dtype=torch.double)[None, :, None].expand(1, 12, 2)  # one map of 2 x 6, row by row
    centres = (torch.arange(6) + 0.5) / 6
    reference = torch.stack([centres.repeat(2), torch.tensor([0.25, 0.75]).repeat_interleave(6)], -1).double()
    read = attention(torch.randn(1, 12, 2).double(), reference, tokens, [(2, 6)])
    torch.testing.assert_close(read[0, :4, 0], torch.tensor([1.5, 2.5, 3.5, 4.5]).double(), rtol=0, atol=1e-5)


def test_sampling_level_by_level_is_the_same() -> None:
    """What a GPU computes, and its gradients."""
    value, locations, weights = (x.requires_grad_() for x in _inputs())
    inputs = (value, locations, weights)
    results = [f(value, SHAPES, *locations.unbind(-1), weights) for f in (deformable_attention, sample_by_level)]
    torch.testing.assert_close(*results)
    projection = torch.randn_like(results[0])
    gradients = [torch.autograd.grad((x * projection).sum(), inputs) for x in results]
    torch.testing.assert_close(*gradients)
