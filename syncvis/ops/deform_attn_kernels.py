"""Triton kernels of multi-scale deformable attention, forward and backward, and their launches.

A program computes one head of a block of reads: a tile of reads x channels, whose rows are gathered whole, cell by cell
(the head's channels of a cell lie together, so threads read them as vectors). Sums are float32, float64 for float64
values. The backward pass adds into the gradient of the values atomically, so the order of its sums is not fixed.

Importing this module needs Triton. The kernels take up what :mod:`syncvis.ops.deform_attn_op` checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024
"""Reads x channels of one program of four warps: 32 reads of 32 channels, as in the public kernels that were timed."""


@triton.jit
def _cell_and_rest(place, size):  # type: ignore[no-untyped-def]
    """Cell whose centre is last before a place in [0, 1], and the distance from there; both cells of an axis are
    outside for a place outside, which may be anything, also not a number."""
    in_cells = place * size - 0.5
    in_cells = tl.where((in_cells >= -1) & (in_cells < size), in_cells, -2.0)
    cell = tl.floor(in_cells)
    return cell.to(tl.int32), in_cells - cell


@triton.jit
def _sample(x, y, table, level, ACC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of one sample per read: its level (height, width, first cell), then cell and rest along y and along x."""
    height, width, start = tl.load(table + 3 * level), tl.load(table + 3 * level + 1), tl.load(table + 3 * level + 2)
    row, below = _cell_and_rest(y.to(ACC), height)
    column, right = _cell_and_rest(x.to(ACC), width)
    return height, width, start, row, below, column, right


@triton.jit
def _corner(height, width, start, row, below, column, right, DOWN: tl.constexpr, ASIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """One of the four cells around a sample: its index, whether it is inside, its shares along y and along x."""
    inside = (row + DOWN >= 0) & (row + DOWN < height) & (column + ASIDE >= 0) & (column + ASIDE < width)
    index = start + (row + DOWN) * width + column + ASIDE
    return index, inside, below if DOWN else 1 - below, right if ASIDE else 1 - right


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    value, table, x, y, weights, output, length, reads,
    HEADS: tl.constexpr, DIM: tl.constexpr, SAMPLES: tl.constexpr, POINTS: tl.constexpr,
    READS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    read, head, clip = tl.program_id(0) * READS + tl.arange(0, READS), tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    here, known = read < reads, channel < DIM
    value += (clip * length * HEADS + head) * DIM + channel[None, :]
    at = (clip * reads + read) * HEADS + head
    total = tl.zeros([READS, CHANNELS], ACC)
    for sample in range(SAMPLES):
        place = at * SAMPLES + sample
        height, width, start, row, below, column, right = _sample(
            tl.load(x + place, here, -1.0), tl.load(y + place, here, -1.0), table, sample // POINTS, ACC
        )
        weight = tl.load(weights + place, here, 0.0).to(ACC)
        for k in tl.static_range(4):
            index, inside, share_y, share_x = _corner(height, width, start, row, below, column, right, k // 2, k % 2)
            found = tl.load(value + index[:, None] * (HEADS * DIM), inside[:, None] & known[None, :], 0.0)
            total += (weight * share_y * share_x)[:, None] * found.to(ACC)
    tl.store(output + at[:, None] * DIM + channel[None, :], total, here[:, None] & known[None, :])


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    gradient, value, table, x, y, weights, in_value, in_x, in_y, in_weights, length, reads,
    HEADS: tl.constexpr, DIM: tl.constexpr, SAMPLES: tl.constexpr, POINTS: tl.constexpr,
    READS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    read, head, clip = tl.program_id(0) * READS + tl.arange(0, READS), tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    here, known = read < reads, channel < DIM
    first = (clip * length * HEADS + head) * DIM + channel[None, :]
    at = (clip * reads + read) * HEADS + head
    coming = tl.load(gradient + at[:, None] * DIM + channel[None, :], here[:, None] & known[None, :], 0.0).to(ACC)
    for sample in range(SAMPLES):
        place = at * SAMPLES + sample
        height, width, start, row, below, column, right = _sample(
            tl.load(x + place, here, -1.0), tl.load(y + place, here, -1.0), table, sample // POINTS, ACC
        )
        weight = tl.load(weights + place, here, 0.0).to(ACC)
        of_weight, slope_x, slope_y = tl.zeros([READS], ACC), tl.zeros([READS], ACC), tl.zeros([READS], ACC)
        for k in tl.static_range(4):
            index, inside, share_y, share_x = _corner(height, width, start, row, below, column, right, k // 2, k % 2)
            cell, mask = first + index[:, None] * (HEADS * DIM), inside[:, None] & known[None, :]
            worth = tl.sum(tl.load(value + cell, mask, 0.0).to(ACC) * coming, 1)  # of a unit of weight on this cell
            of_weight += share_y * share_x * worth
            slope_x += share_y * worth * (2 * (k % 2) - 1)
            slope_y += share_x * worth * (2 * (k // 2) - 1)
            tl.atomic_add(in_value + cell, (weight * share_y * share_x)[:, None] * coming, mask, sem="relaxed")
        tl.store(in_weights + place, of_weight, here)
        tl.store(in_x + place, slope_x * weight * width, here)
        tl.store(in_y + place, slope_y * weight * height, here)


def forward(value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """See :func:`syncvis.ops.deform_attn_op.sample`."""
    output = value.new_empty(*x.shape[:2], value.shape[2] * value.shape[3])
    inputs = [value.contiguous(), _table(tuple(shapes), value.device), *(t.contiguous() for t in (x, y, weights))]
    _launch(_forward, value, x, [*inputs, output])
    return output


def backward(
    gradient: Tensor, value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`syncvis.ops.deform_attn_op.sample_backward`."""
    in_value = torch.zeros(value.shape, dtype=_sum_type(value), device=value.device)
    in_samples = [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, y, weights)]
    inputs = [value.contiguous(), _table(tuple(shapes), value.device), *(t.contiguous() for t in (x, y, weights))]
    _launch(_backward, value, x, [gradient.contiguous(), *inputs, in_value, *in_samples])
    return in_value.to(value.dtype), *in_samples


def _launch(kernel: Any, value: Tensor, x: Tensor, tensors: Sequence[Tensor]) -> None:
    """One program per block of reads, head and clip; on the device of the values, which need not be the current one."""
    (clips, length, heads, dim), (reads, levels, points) = value.shape, (x.shape[1], *x.shape[3:])
    if clips * reads == 0:
        return
    channels = triton.next_power_of_2(dim)
    block = max(1, TILE // channels)
    acc = tl.float64 if _sum_type(value) is torch.float64 else tl.float32
    with torch.cuda.device_of(value):
        kernel[triton.cdiv(reads, block), heads, clips](
            *tensors, length, reads, heads, dim, levels * points, points, block, channels, acc
        )


def _sum_type(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype is torch.float64 else torch.float32


@lru_cache(maxsize=1024)
def _table(shapes: tuple[int, ...], device: torch.device) -> Tensor:
    """Height, width and first cell of each level, int32 on the device: copied there once per size of the images."""
    rows, start = [], 0
    for height, width in zip(shapes[::2], shapes[1::2], strict=True):
        rows.append((height, width, start))
        start += height * width
    return torch.tensor(rows, dtype=torch.int32, device=device)
