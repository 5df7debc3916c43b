"""Multi-scale deformable attention (Deformable DETR) in plain PyTorch: forward and backward on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Sequence[tuple[int, int]]


def deformable_attention(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of values sampled bilinearly at a few places of every level.

    Args:
        value: (N, S, heads, D), the levels one after another, S = sum of h*w.
        shapes: (h, w) of each level.
        locations: (N, R, heads, levels, points, 2), x and y in [0, 1] of the level.
        weights: (N, R, heads, levels, points), summing to 1 over levels and points.

    Returns:
        (N, R, heads * D).
    """
    batch, _, heads, dim = value.shape
    num_reads, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (N*heads, R, levels, points, 2)
    sampled = []
    for level, part in enumerate(value.split([h * w for h, w in shapes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shapes[level])
        sampled.append(F.grid_sample(maps, grids[:, :, level], align_corners=False))  # (N*heads, D, R, points)
    stacked = torch.cat(sampled, -1)
    flat_weights = weights.transpose(1, 2).reshape(batch * heads, 1, num_reads, len(sampled) * points)
    return (stacked * flat_weights).sum(-1).view(batch, heads * dim, num_reads).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Deformable self-attention over the tokens of all levels.

    Initialised as in Deformable DETR: offsets start as a ring of directions, one per head, further out with each point.
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
        """query (N, S, C), reference (S, 2) in [0, 1], tokens (N, S, C) -> (N, S, C)."""
        batch, length, _ = query.shape
        layout = (batch, length, self.heads, self.levels, self.points)
        sizes = torch.tensor([(w, h) for h, w in shapes], dtype=query.dtype, device=query.device)
        offsets = self.sampling_offsets(query).view(*layout, 2) / sizes[:, None]
        locations = reference[:, None, None, None] + offsets
        weights = self.attention_weights(query).view(*layout[:3], -1).softmax(-1).view(layout)
        value = self.value_proj(tokens).view(batch, length, self.heads, -1)
        return self.output_proj(deformable_attention(value, shapes, locations, weights))
