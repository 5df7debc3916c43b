"""Multi-scale deformable attention (Deformable DETR): forward and backward on any device.

Every output is a sum of a few rows of the values, each with a weight: a product with a sparse matrix that has, per
sample, the four bilinear weights of the cells around it. On the CPU it is computed as just that, forward and backward;
nothing of the size samples x channels is ever made. On a GPU it is an operator of two Triton kernels
(:mod:`syncvis.ops.deform_attn_op`); elsewhere, and where algorithms must be deterministic, ``grid_sample`` is used,
level by level.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from syncvis.ops import deform_attn_op
from syncvis.ops.deform_attn_levels import Shapes, sample_by_level
from syncvis.ops.linear import TokenLinear, linear
from syncvis.transfer import to_device


def deformable_attention(value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of values sampled bilinearly at a few places of every level; outside a level is zero.

    Args:
        value: (N, S, heads, D), the levels one after another, S = sum of h*w.
        shapes: (h, w) of each level.
        x, y: (N, R, heads, levels, points), places in [0, 1] of the level.
        weights: (N, R, heads, levels, points), summing to 1 over levels and points.

    Returns:
        (N, R, heads * D).
    """
    if not torch.are_deterministic_algorithms_enabled() and deform_attn_op.has_kernels(value.device):
        return deform_attn_op.sample(value, [size for shape in shapes for size in shape], x, y, weights)
    if value.device.type == "cpu":
        summed: Tensor = _SparseSampling.apply(value, tuple(shapes), x, y, weights)
        return summed
    return sample_by_level(value, shapes, x, y, weights)


class _SparseSampling(torch.autograd.Function):
    """Bilinear sampling and weighted sum as a sparse product.

    The levels * points samples of one output form a bag; the four cells around the samples are four sets of bags of
    the same layout. Only the inputs are kept for the backward pass, all else is computed again there.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """value (N, S, heads, D); x, y and weights (N, R, heads, levels, points) -> (N, R, heads * D)."""
        ctx.shapes = shapes
        ctx.save_for_backward(value, x, y, weights)
        rows, cells, bag = _pad(value, shapes), _Cells(shapes, x, y), weights[0, 0, 0].numel()
        corners = zip(cells.indices(), cells.shares(_by_read(weights)), strict=True)
        output = torch.stack([_sum_rows(rows, index, share, bag) for index, share in corners]).sum(0)
        return output.view(*weights.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, x, y, weights = ctx.saved_tensors
        rows, cells, bag = _pad(value, ctx.shapes), _Cells(ctx.shapes, x, y), weights[0, 0, 0].numel()
        gradient, flat = gradient.reshape(-1, rows.shape[1]), _by_read(weights)
        indices = cells.indices()
        in_rows = torch.zeros_like(rows)
        for index, share in zip(indices, cells.shares(flat), strict=True):
            in_rows += _sum_rows_transposed(gradient, index, share, bag, len(rows))
        # What a unit of weight on each of the four cells is worth.
        worth = [_row_products(rows, index, gradient, bag) for index in indices]
        in_x, in_y, in_weights = (g.view(weights.shape) for g in cells.gradients(worth, flat))
        return _crop(in_rows, ctx.shapes, value.shape), None, in_x, in_y, in_weights


BORDER = 2
"""Cells of zero around every padded level: places outside are moved there, and find nothing and no slope."""


class _Cells:
    """The four cells around every sample in the padded levels; every tensor is (N*R, heads*levels*points).

    The four are: left above, right above, left below, right below.
    """

    def __init__(self, shapes: Shapes, x: Tensor, y: Tensor) -> None:
        num_clips, num_reads, self._heads = x.shape[:3]
        layout = x.shape[2:]

        def per_level(numbers: Sequence[int]) -> Tensor:
            return x.new_tensor(numbers)[:, None].expand(layout).flatten()

        self._width, self._height = per_level([w for _, w in shapes]), per_level([h for h, _ in shapes])
        column, self._right = _cell_and_rest(_by_read(x), self._width)
        row, self._below = _cell_and_rest(_by_read(y), self._height)
        # Rows of the padded values are laid out (N, cells, heads).
        sizes = [_padded_size(shape) for shape in shapes]
        starts = [sum(sizes[:level]) * self._heads for level in range(len(shapes))]
        first = per_level(starts) + torch.arange(self._heads).repeat_interleave(layout[1:].numel())
        self._row_step = (self._width + 2 * BORDER) * self._heads
        clip = torch.arange(num_clips, dtype=torch.int32).repeat_interleave(num_reads) * (sum(sizes) * self._heads)
        self._first = (
            torch.addcmul(first, row, self._row_step).add_(column, alpha=self._heads).int().add_(clip[:, None])
        )

    def indices(self) -> list[Tensor]:
        """Row of each cell in the padded values, int32."""
        below = self._first + self._row_step.int()
        return [self._first, self._first + self._heads, below, below + self._heads]

    def shares(self, weights: Tensor) -> list[Tensor]:
        """Weight of each cell: bilinear times that of its sample."""
        below = weights * self._below
        above = weights - below
        right_above, right_below = above * self._right, below * self._right
        return [above.sub_(right_above), right_above, below.sub_(right_below), right_below]

    def gradients(self, worth: list[Tensor], weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From what the cells are worth: gradients of x and y (in [0, 1] of the level) and of the weights."""
        above = torch.lerp(worth[0], worth[1], self._right)
        below = torch.lerp(worth[2], worth[3], self._right)
        slope_x = torch.lerp(worth[1] - worth[0], worth[3] - worth[2], self._below)
        in_weights, slope_y = torch.lerp(above, below, self._below), below.sub_(above)
        return slope_x.mul_(weights).mul_(self._width), slope_y.mul_(weights).mul_(self._height), in_weights


def _by_read(x: Tensor) -> Tensor:
    """(N, R, heads, levels, points) -> (N*R, heads*levels*points)."""
    return x.flatten(0, 1).flatten(1)


def _cell_and_rest(place: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The padded cell whose centre is last before a place, and the distance from there.

    Args:
        place: (A, K) in [0, 1] of the level; not a number counts as outside.
        size: (K,) cells of the unpadded level.
    """
    zero = place.new_zeros(())
    in_cells = torch.fmin(torch.fmax((place * size).add_(BORDER - 0.5), zero), size + (2 * BORDER - 1.5))
    cell = in_cells.floor()
    return cell, in_cells.sub_(cell)


def _padded_size(shape: tuple[int, int]) -> int:
    return (shape[0] + 2 * BORDER) * (shape[1] + 2 * BORDER)


def _pad(value: Tensor, shapes: Shapes) -> Tensor:
    """Values (N, S, heads, D) with a border of zeros around every level, as rows (N * cells * heads, D)."""
    levels = []
    for level, shape in zip(value.flatten(2).split([h * w for h, w in shapes], 1), shapes, strict=True):
        levels.append(F.pad(level.unflatten(1, shape), (0, 0, *[BORDER] * 4)).flatten(1, 2))
    return torch.cat(levels, 1).view(-1, value.shape[-1])


def _crop(rows: Tensor, shapes: Shapes, like: torch.Size) -> Tensor:
    """The inverse of :func:`_pad`."""
    levels = rows.view(like[0], -1, like[2] * like[3]).split([_padded_size(shape) for shape in shapes], 1)
    inside = [
        level.unflatten(1, (h + 2 * BORDER, w + 2 * BORDER))[:, BORDER:-BORDER, BORDER:-BORDER].flatten(1, 2)
        for level, (h, w) in zip(levels, shapes, strict=True)
    ]
    return torch.cat(inside, 1).view(like)


def _sum_rows(rows: Tensor, index: Tensor, weights: Tensor, bag: int) -> Tensor:
    """Weighted sums of rows: rows (V, D), index and weights in bags of ``bag`` one after another -> (bags, D)."""
    return F.embedding_bag(index.view(-1, bag), rows, mode="sum", per_sample_weights=weights.view(-1, bag))


def _row_products(rows: Tensor, index: Tensor, gradient: Tensor, bag: int) -> Tensor:
    """Product of each indexed row (V, D) with the row of its bag in ``gradient`` (bags, D), shaped like ``index``."""
    ends = torch.arange(0, index.numel() + 1, bag, dtype=index.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        places = torch.sparse_csr_tensor(
            ends, index.view(-1), gradient.new_zeros(index.numel()), (len(gradient), len(rows)), check_invariants=False
        )
    return torch.sparse.sampled_addmm(places, gradient, rows.T, beta=0.0).values().view(index.shape)


def _sum_rows_transposed(gradient: Tensor, index: Tensor, weights: Tensor, bag: int, num_rows: int) -> Tensor:
    """The transpose of :func:`_sum_rows`: each bag's row (bags, D) goes to the rows it was read from -> (V, D)."""
    ends = np.arange(0, index.numel() + 1, bag, dtype=np.int32)
    matrix = csr_array((weights.numpy().ravel(), index.numpy().ravel(), ends), shape=(len(gradient), num_rows))
    return torch.from_numpy(matrix.T @ gradient.numpy())


class DeformableAttention(nn.Module):
    """Deformable attention over the tokens of all levels; half precision is not enough for its places.

    Initialised as in Deformable DETR: offsets start as a ring of directions, one per head, further out with each point.

    Args:
        dim: C.
        heads: number of heads, a divisor of ``dim``.
        levels: number of feature maps.
        points: samples per head and level.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = TokenLinear(dim, heads * levels * points * 2)
        self.attention_weights = TokenLinear(dim, heads * levels * points)
        self.value_proj = TokenLinear(dim, dim)
        self.output_proj = TokenLinear(dim, dim)
        self._init_weights()

    def _init_weights(self) -> None:
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ring = torch.stack([angles.cos(), angles.sin()], -1)
        ring = ring / ring.abs().max(-1, keepdim=True).values
        steps = torch.arange(1, self.points + 1)
        bias = ring[:, None, None] * steps[None, None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, reference: Tensor, tokens: Tensor, shapes: Shapes) -> Tensor:
        """Read the tokens around a reference point per query.

        Args:
            query: (N, R, C).
            reference: x and y in [0, 1], (R, 2) or, one per clip and level, (N, R, levels, 2).
            tokens: (N, S, C), S = sum of h*w.
            shapes: (h, w) of each level.

        Returns:
            (N, R, C).
        """
        layout = (self.heads, self.levels, self.points)
        around = reference if reference.dim() == 4 else reference[None, :, None]
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1).unflatten(-1, layout[1:])
        value = self.value_proj(tokens).unflatten(-1, (self.heads, -1))
        x, y = (
            (around[..., axis][..., None, :, None] + self._offsets(query, axis, shapes).unflatten(-1, layout))
            for axis in (0, 1)
        )
        return self.output_proj(deformable_attention(value, shapes, x, y, weights))

    def _offsets(self, query: Tensor, axis: int, shapes: Shapes) -> Tensor:
        """Learned offsets along x (0) or y (1) as a fraction of the level, (N, R, heads*levels*points)."""
        sizes = torch.tensor([shape[1 - axis] for shape in shapes], dtype=query.dtype)
        cells = to_device([sizes], query.device)[0][:, None].expand(self.levels, self.points)
        weight, bias = self.sampling_offsets.weight[axis::2], self.sampling_offsets.bias[axis::2]
        return linear(query, weight, bias) / cells.flatten().repeat(self.heads)
