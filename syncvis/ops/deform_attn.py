"""Multi-scale deformable attention (Deformable DETR) in plain PyTorch: forward and backward on any device.

Every output is a sum of a few rows of the values, each with a weight: a product with a sparse matrix that has, per
sample, the four bilinear weights of the cells around it. On the CPU it is computed as just that (``embedding_bag`` and,
for the gradient of the values, its transpose); nothing of the size samples x channels is ever made. On a GPU
``grid_sample`` is used, level by level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Shapes = Sequence[tuple[int, int]]


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
    if value.device.type == "cpu":
        summed: Tensor = _SparseSampling.apply(value, tuple(shapes), x, y, weights)
        return summed
    return _sample_by_level(value, shapes, x, y, weights)


def _sample_by_level(value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads, dim = value.shape
    num_reads, points = x.shape[1], x.shape[4]
    grids = torch.stack([2 * x - 1, 2 * y - 1], -1).transpose(1, 2).flatten(0, 1)  # (N*heads, R, levels, points, 2)
    by_head = weights.transpose(1, 2).reshape(batch * heads, 1, num_reads, len(shapes), points)
    total = value.new_zeros(batch * heads, dim, num_reads)
    for level, part in enumerate(value.split([h * w for h, w in shapes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shapes[level])
        sampled = F.grid_sample(maps, grids[:, :, level], align_corners=False)  # (N*heads, D, R, points)
        total = total + (sampled * by_head[..., level, :]).sum(-1)
    return total.view(batch, heads * dim, num_reads).transpose(1, 2)


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
        cells, flat = _Cells(shapes, value, x, y), _by_read(weights)
        rows, bag = value.reshape(-1, value.shape[-1]), weights[0, 0, 0].numel()
        output = sum(_sum_rows(rows, cells.index(c), cells.share(c).mul_(flat), bag) for c in CORNERS)
        assert isinstance(output, Tensor)
        return output.view(*weights.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, x, y, weights = ctx.saved_tensors
        cells, flat = _Cells(ctx.shapes, value, x, y), _by_read(weights)
        rows, bag = value.reshape(-1, value.shape[-1]), weights[0, 0, 0].numel()
        gradient = gradient.reshape(-1, rows.shape[1])
        in_value = torch.zeros_like(rows)
        in_x, in_y, in_weights = (torch.zeros_like(flat) for _ in range(3))
        for corner in CORNERS:
            index, share = cells.index(corner), cells.share(corner)
            read = _row_products(rows, index, gradient, bag)  # what a unit of weight on that cell is worth
            in_x.addcmul_(cells.slope_x(corner), read)
            in_y.addcmul_(cells.slope_y(corner), read)
            in_weights.addcmul_(share, read)
            in_value += _sum_rows_transposed(gradient, index, share.mul_(flat), bag, len(rows))
        in_x.mul_(flat).mul_(cells.width)
        in_y.mul_(flat).mul_(cells.height)
        return in_value.view(value.shape), None, *(g.view(weights.shape) for g in (in_x, in_y, in_weights))


CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
"""The cells around a sample: (0, 0) is left and above, (1, 1) right and below."""


class _Cells:
    """The four cells around every sample, each tensor (N*R, heads*levels*points).

    Cells outside their level have share and slope 0, and some index inside.
    """

    def __init__(self, shapes: Shapes, value: Tensor, x: Tensor, y: Tensor) -> None:
        length, heads = value.shape[1:3]
        layout = x.shape[2:]

        def per_level(numbers: Sequence[int]) -> Tensor:
            return x.new_tensor(numbers)[:, None].expand(layout).flatten()

        self.width, self.height = per_level([w for _, w in shapes]), per_level([h for h, _ in shapes])
        self._column, self._share_x, self._slope_x = _both_sides(_by_read(x), self.width)
        row, self._share_y, self._slope_y = _both_sides(_by_read(y), self.height)
        self._row_start = [r.mul_(self.width) for r in row]
        # Rows of the values are laid out (N, S, heads).
        starts = [sum(h * w for h, w in shapes[:level]) for level in range(len(shapes))]
        head = torch.arange(heads).repeat_interleave(layout[1:].numel())
        clip = torch.arange(len(x)).repeat_interleave(x.shape[1])
        self._heads = heads
        self._first = (per_level(starts) * heads + head).int()
        self._clip = (clip * (length * heads))[:, None].int()

    def index(self, corner: tuple[int, int]) -> Tensor:
        """Row of the values, int32."""
        cell = (self._row_start[corner[1]] + self._column[corner[0]]).int()
        return cell.mul_(self._heads).add_(self._first).add_(self._clip)

    def share(self, corner: tuple[int, int]) -> Tensor:
        """Bilinear weight of the cell."""
        return self._share_x[corner[0]] * self._share_y[corner[1]]

    def slope_x(self, corner: tuple[int, int]) -> Tensor:
        """Derivative of the share with respect to x in cells."""
        return self._slope_x[corner[0]] * self._share_y[corner[1]]

    def slope_y(self, corner: tuple[int, int]) -> Tensor:
        """Derivative of the share with respect to y in cells."""
        return self._share_x[corner[0]] * self._slope_y[corner[1]]


def _by_read(x: Tensor) -> Tensor:
    """(N, R, heads, levels, points) -> (N*R, heads*levels*points)."""
    return x.flatten(0, 1).flatten(1)


def _both_sides(place: Tensor, size: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Along one axis: the cells whose centres are before and after each place, their shares and slopes.

    Args:
        place: (A, K) in [0, 1]; far outside, or not a number, is taken as just outside.
        size: (K,) number of cells.
    """
    in_cells = (place * size).sub_(0.5).nan_to_num_(-2.0).clamp_(min=-2.0).minimum(size + 1)
    before = in_cells.floor()
    rest = in_cells.sub_(before)
    cells, shares, slopes = [], [], []
    for cell, share, sign in ((before, 1 - rest, -1), (before + 1, rest, 1)):
        inside = ((cell >= 0) & (cell < size)).to(place.dtype)
        cells.append(cell.clamp(min=0).minimum(size - 1))
        shares.append(share.mul_(inside))
        slopes.append(inside.mul_(sign))
    return cells, shares, slopes


def _sum_rows(rows: Tensor, index: Tensor, weights: Tensor, bag: int) -> Tensor:
    """Weighted sums of rows: rows (V, D), index and weights in bags of ``bag`` one after another -> (bags, D)."""
    return F.embedding_bag(index.view(-1, bag), rows, mode="sum", per_sample_weights=weights.view(-1, bag))


def _row_products(rows: Tensor, index: Tensor, gradient: Tensor, bag: int) -> Tensor:
    """Product of each indexed row (V, D) with the row of its bag in ``gradient`` (bags, D), shaped like ``index``."""
    offsets = torch.arange(0, index.numel(), bag, dtype=index.dtype)
    bag_of = torch.arange(len(gradient), dtype=index.dtype).repeat_interleave(bag)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        gradient, rows, index.view(-1), offsets, bag_of, 0
    )
    return products.view(index.shape)


def _sum_rows_transposed(gradient: Tensor, index: Tensor, weights: Tensor, bag: int, num_rows: int) -> Tensor:
    """The transpose of :func:`_sum_rows`: each bag's row (bags, D) goes to the rows it was read from -> (V, D)."""
    ends = np.arange(0, index.numel() + 1, bag, dtype=np.int32)
    by_bag = csr_array((weights.numpy().ravel(), index.numpy().ravel(), ends), shape=(len(gradient), num_rows))
    by_row = by_bag.tocsc()
    return F.embedding_bag(
        torch.from_numpy(by_row.indices),
        gradient,
        torch.from_numpy(by_row.indptr[:-1]),
        mode="sum",
        per_sample_weights=torch.from_numpy(by_row.data),
    )


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
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
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
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

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
        cells = query.new_tensor([shape[1 - axis] for shape in shapes])[:, None].expand(self.levels, self.points)
        weight, bias = self.sampling_offsets.weight[axis::2], self.sampling_offsets.bias[axis::2]
        return F.linear(query, weight, bias) / cells.flatten().repeat(self.heads)
