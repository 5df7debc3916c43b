"""Mask2Former's pixel decoder: deformable attention over the three coarse maps, then one FPN step to the finest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syncvis.models.attention import FeedForward
from syncvis.models.position import spatial_code
from syncvis.ops.deform_attn import DeformableAttention
from syncvis.ops.deform_attn_levels import Shapes
from syncvis.outputs import guides_of

NUM_LEVELS = 3


@dataclass(frozen=True)
class PixelFeatures:
    """What the pixel decoder makes of a frame.

    Attributes:
        levels: three maps, coarse to fine, each (N, C, h, w).
        mask: (N, mask_dim, h, w) mask features.
        raw: (N, C, h, w) the finest map, which the mask features are a projection of; None where nobody reads it.
        guides: those of :class:`syncvis.outputs.ClipFeatures`, (N, mask_dim, h, w); None where they are made later.
    """

    levels: tuple[Tensor, ...]
    mask: Tensor
    raw: Tensor | None
    guides: tuple[Tensor, ...] | None = None

    def guided(self) -> PixelFeatures:
        """The same with the guides."""
        return replace(self, guides=guides_of(self.mask, self.levels))

    @staticmethod
    def concat(parts: Sequence[PixelFeatures]) -> PixelFeatures:
        """Join frames along N; what not all parts have is left out."""
        levels = tuple(torch.cat(maps) for maps in zip(*(p.levels for p in parts), strict=True))
        raw = [p.raw for p in parts if p.raw is not None]
        guides = [p.guides for p in parts if p.guides is not None]
        return PixelFeatures(
            levels,
            torch.cat([p.mask for p in parts]),
            torch.cat(raw) if len(raw) == len(parts) else None,
            tuple(torch.cat(maps) for maps in zip(*guides, strict=True)) if len(guides) == len(parts) else None,
        )


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and FFN, post-norm."""

    recomputable: ClassVar[bool] = True

    def __init__(self, dim: int, heads: int, points: int, ffn_dim: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, heads, NUM_LEVELS, points)
        self.norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim)

    def forward(self, tokens: Tensor, code: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """tokens (N, S, C), code (S, C), reference (S, 2) -> (N, S, C)."""
        attended = self.attention(tokens + code, reference, tokens, shapes)
        return self.ffn(self.norm(tokens + attended))


class PixelDecoder(nn.Module):
    """Backbone maps -> three maps of width C for the query decoder, and per-pixel mask features.

    Args:
        channels: of the four backbone maps, fine to coarse.
        dim: C.
        mask_dim: channels of the mask features.
    """

    def __init__(
        self,
        channels: Sequence[int],
        dim: int,
        mask_dim: int,
        layers: int,
        heads: int,
        points: int,
        ffn_dim: int,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.input_proj = nn.ModuleList(_projection(c, dim) for c in reversed(channels[1:]))
        self.level_embed = nn.Parameter(torch.randn(NUM_LEVELS, dim))
        self.layers = nn.ModuleList(DeformableEncoderLayer(dim, heads, points, ffn_dim) for _ in range(layers))
        self.lateral = nn.Sequential(nn.Conv2d(channels[0], dim, 1, bias=False), nn.GroupNorm(32, dim))
        self.smooth = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1, bias=False), nn.GroupNorm(32, dim), nn.ReLU())
        self.mask_features = nn.Conv2d(dim, mask_dim, 1)

    def forward(self, maps: Sequence[Tensor]) -> PixelFeatures:
        """Four backbone maps, fine to coarse -> PixelFeatures; in the precision of the weights also under autocast."""
        with torch.autocast(maps[0].device.type, enabled=False):
            return self._features([x.to(self.level_embed.dtype) for x in maps])

    def _features(self, maps: Sequence[Tensor]) -> PixelFeatures:
        projected = [proj(x) for proj, x in zip(self.input_proj, reversed(maps[1:]), strict=True)]
        shapes = [(x.shape[-2], x.shape[-1]) for x in projected]
        tokens = self._encode(torch.cat([x.flatten(2).mT for x in projected], 1), shapes)
        parts = tokens.split([h * w for h, w in shapes], dim=1)
        levels = tuple(p.mT.unflatten(2, s) for p, s in zip(parts, shapes, strict=True))
        lateral = self.lateral(maps[0])
        upsampled = F.interpolate(levels[-1], lateral.shape[-2:], mode="bilinear", align_corners=False)
        raw = self.smooth(lateral + upsampled)
        return PixelFeatures(levels, self.mask_features(raw), raw)

    def _encode(self, tokens: Tensor, shapes: Shapes) -> Tensor:
        codes = [spatial_code(h, w, self.dim, tokens.device).flatten(0, 1) for h, w in shapes]
        code = torch.cat([c + e for c, e in zip(codes, self.level_embed, strict=True)])
        reference = torch.cat([_cell_centres(h, w, tokens.device) for h, w in shapes])
        for layer in self.layers:
            tokens = layer(tokens, code, reference, shapes)
        return tokens


def _projection(channels: int, dim: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, dim, 1)
    nn.init.xavier_uniform_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.GroupNorm(32, dim))


def _cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """(height * width, 2): x and y of the cell centres in [0, 1]."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
