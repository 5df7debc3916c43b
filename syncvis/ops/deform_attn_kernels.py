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

from syncvis.transfer import to_device

FORWARD_TILE, BACKWARD_TILE = 1024, 512
"""Reads x channels of one program of four warps. Compiled for 32 channels, a thread needs 64 registers forward and 96
backward on compute capability 8.0, 64 and 48 on 9.0; twice the tile costs about twice as many."""


@triton.jit
def _tile(length, reads, HEADS: tl.constexpr, DIM: tl.constexpr, READS: tl.constexpr, CHANNELS: tl.constexpr):
    """What this program computes.

    Returns:
        first: (1, CHANNELS) where the first cell of its clip and head starts in the values.
        at: (READS,) index of its reads and head among those of all clips.
        here, known: (READS,) and (1, CHANNELS), whether there is such a read and such a channel.
    """
    read, head, clip = tl.program_id(0) * READS + tl.arange(0, READS), tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.arange(0, CHANNELS)[None, :]
    first, at = (clip * length * HEADS + head) * DIM + channel, (clip * reads + read) * HEADS + head
    return first, at, read < reads, channel < DIM


@triton.jit
def _cell_and_rest(place, size):
    """Cell whose centre is last before a place in [0, 1], and the distance from there; both cells of an axis are
    outside for a place outside, which may be anything, also not a number."""
    in_cells = place * size - 0.5
    in_cells = tl.where((in_cells >= -1) & (in_cells < size), in_cells, -2.0)
    cell = tl.floor(in_cells)
    return cell.to(tl.int32), in_cells - cell


@triton.jit
def _sample(x, y, table, level, SUMS: tl.constexpr):
    """Of one sample per read: its level (height, width, first cell), then cell and rest along y and along x."""
    height, width, start = tl.load(table + 3 * level), tl.load(table + 3 * level + 1), tl.load(table + 3 * level + 2)
    row, below = _cell_and_rest(y.to(SUMS), height)
    column, right = _cell_and_rest(x.to(SUMS), width)
    return height, width, start, row, below, column, right


@triton.jit
def _corner(height, width, start, row, below, column, right, DOWN: tl.constexpr, ASIDE: tl.constexpr):
    """One of the four cells around a sample: its index, whether it is inside, its shares along y and along x."""
    inside = (row + DOWN >= 0) & (row + DOWN < height) & (column + ASIDE >= 0) & (column + ASIDE < width)
    index = start + (row + DOWN) * width + column + ASIDE
    return index, inside, below if DOWN else 1 - below, right if ASIDE else 1 - right


@triton.jit
def _forward(
    value, table, x, y, weights, output, length, reads,
    HEADS: tl.constexpr, DIM: tl.constexpr, SAMPLES: tl.constexpr, POINTS: tl.constexpr,
    READS: tl.constexpr, CHANNELS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    first, at, here, known = _tile(length, reads, HEADS, DIM, READS, CHANNELS)
    total = tl.zeros([READS, CHANNELS], SUMS)
    for sample in range(SAMPLES):
        place = at * SAMPLES + sample
        height, width, start, row, below, column, right = _sample(
            tl.load(x + place, here, -1.0), tl.load(y + place, here, -1.0), table, sample // POINTS, SUMS
        )
        weight = tl.load(weights + place, here, 0.0).to(SUMS)
        for k in tl.static_range(4):
            index, inside, share_y, share_x = _corner(height, width, start, row, below, column, right, k // 2, k % 2)
            found = tl.load(value + first + index[:, None] * (HEADS * DIM), inside[:, None] & known, 0.0)
            total += (weight * share_y * share_x)[:, None] * found.to(SUMS)
    tl.store(output + at[:, None] * DIM + tl.arange(0, CHANNELS)[None, :], total, here[:, None] & known)


@triton.jit
def _backward(
    gradient, value, table, x, y, weights, in_value, in_x, in_y, in_weights, length, reads,
    HEADS: tl.constexpr, DIM: tl.constexpr, SAMPLES: tl.constexpr, POINTS: tl.constexpr,
    READS: tl.constexpr, CHANNELS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    first, at, here, known = _tile(length, reads, HEADS, DIM, READS, CHANNELS)
    coming = tl.load(gradient + at[:, None] * DIM + tl.arange(0, CHANNELS)[None, :], here[:, None] & known, 0.0).to(
        SUMS
    )
    for sample in range(SAMPLES):
        place = at * SAMPLES + sample
        height, width, start, row, below, column, right = _sample(
            tl.load(x + place, here, -1.0), tl.load(y + place, here, -1.0), table, sample // POINTS, SUMS
        )
        weight = tl.load(weights + place, here, 0.0).to(SUMS)
        of_weight, slope_x, slope_y = tl.zeros([READS], SUMS), tl.zeros([READS], SUMS), tl.zeros([READS], SUMS)
        for k in tl.static_range(4):
            index, inside, share_y, share_x = _corner(height, width, start, row, below, column, right, k // 2, k % 2)
            cell, mask = first + index[:, None] * (HEADS * DIM), inside[:, None] & known
            worth = tl.sum(tl.load(value + cell, mask, 0.0).to(SUMS) * coming, 1)  # of a unit of weight on this cell
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
    _launch(_forward, FORWARD_TILE, value, x, [*_inputs(value, shapes, x, y, weights), output])
    return output


def backward(
    gradient: Tensor, value: Tensor, shapes: Sequence[int], x: Tensor, y: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`syncvis.ops.deform_attn_op.sample_backward`."""
    in_value = torch.zeros(value.shape, dtype=_sum_type(value), device=value.device)
    in_x, in_y, in_weights = (t.new_empty(t.shape) for t in (x, y, weights))
    tensors = [gradient.contiguous(), *_inputs(value, shapes, x, y, weights), in_value, in_x, in_y, in_weights]
    _launch(_backward, BACKWARD_TILE, value, x, tensors)
    return in_value.to(value.dtype), in_x, in_y, in_weights


def _inputs(value: Tensor, shapes: Sequence[int], *samples: Tensor) -> list[Tensor]:
    return [value.contiguous(), _table(tuple(shapes), value.device), *(t.contiguous() for t in samples)]


def _launch(kernel: Any, tile: int, value: Tensor, x: Tensor, tensors: Sequence[Tensor]) -> None:
    """One program per block of reads, head and clip; on the device of the values, which need not be the current one."""
    (clips, length, heads, dim), (reads, levels, points) = value.shape, (x.shape[1], *x.shape[3:])
    if clips * reads == 0:
        return
    channels = triton.next_power_of_2(dim)
    block = max(1, tile // channels)
    sums = tl.float64 if _sum_type(value) is torch.float64 else tl.float32
    layout = (heads, dim, levels * points, points, block, channels, sums)
    with torch.cuda.device_of(value):
        kernel[triton.cdiv(reads, block), heads, clips](*tensors, length, reads, *layout, enable_fp_fusion=True)


def _sum_type(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype is torch.float64 else torch.float32


@lru_cache(maxsize=1024)
def _table(shapes: tuple[int, ...], device: torch.device) -> Tensor:
    """Height, width and first cell of each level, int32 on the device: copied there once per size of the images."""
    rows, start = [], 0
    for height, width in zip(shapes[::2], shapes[1::2], strict=True):
        rows.append((height, width, start))
        start += height * width
    return to_device([torch.tensor(rows, dtype=torch.int32)], device)[0]
