"""Multi-scale deformable attention by ``grid_sample``, level by level: on any device, deterministic where it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from syncvis.ops.points import sample_points

Shapes = Sequence[tuple[int, int]]
"""(h, w) of each level."""


def sample_by_level(value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """See :func:`syncvis.ops.deform_attn.deformable_attention`."""
    batch, _, heads, dim = value.shape
    num_reads, points = x.shape[1], x.shape[4]
    # (N*heads, levels, R*points), one sample after another
    by_head = [t.permute(0, 2, 3, 1, 4).flatten(0, 1).flatten(2) for t in (x, y, weights)]
    places, shares = torch.stack(by_head[:2], -1), by_head[2]
    total = value.new_zeros(batch * heads, dim, num_reads)
    for level, part in enumerate(value.split([h * w for h, w in shapes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shapes[level])
        sampled = sample_points(maps, places[:, level]) * shares[:, None, level]  # (N*heads, D, R*points)
        total = total + sampled.unflatten(-1, (num_reads, points)).sum(-1)
    return total.view(batch, heads * dim, num_reads).transpose(1, 2)
