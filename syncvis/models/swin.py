"""Swin transformer (torchvision's) as a backbone of four maps, equal to Mask2Former's for any input size.

Torchvision drops the shift where a window covers a whole side of the map; Mask2Former (backbone/swin.py) shifts always
and masks. The attention here does as Mask2Former does, so that its weights give its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import swin_transformer
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlock

SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], int]] = {
    "swin_t": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_s": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_b": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_l": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
"""Channels of the first stage, depths, heads and window side of the networks that Mask2Former uses."""


class ShiftedWindowAttention(swin_transformer.ShiftedWindowAttention):  # type: ignore[misc]
    """Attention inside windows; every second block shifts them by half a window, whatever the size of the map."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) -> (N, h, w, C)."""
        height, width, window, shift = x.shape[1], x.shape[2], self.window_size, self.shift_size
        x = F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        padded = (x.shape[1], x.shape[2])
        tokens = _split_windows(x, window)  # (N, windows, cells, C)
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.get_relative_position_bias()
        if any(shift):
            bias = bias + _same_region(padded, window, shift, x.device)[:, None]
        query, key, value = qkv.unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(qkv.dtype))
        x = _join_windows(self.proj(attended.transpose(2, 3).flatten(3)), padded, window)
        if any(shift):
            x = x.roll((shift[0], shift[1]), (1, 2))
        return x[:, :height, :width].contiguous()


def _split_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """(N, h, w, C) -> (N, windows, cells, C)."""
    x = x.unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _join_windows(x: Tensor, padded: tuple[int, int], window: Sequence[int]) -> Tensor:
    """The inverse of :func:`_split_windows`."""
    x = x.unflatten(2, (window[0], window[1])).unflatten(1, (padded[0] // window[0], padded[1] // window[1]))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _same_region(padded: tuple[int, int], window: Sequence[int], shift: Sequence[int], device: torch.device) -> Tensor:
    """(windows, cells, cells): 0 where two cells of a shifted window were neighbours before the shift, else -100."""
    sides = []
    for length, size, step in zip(padded, window, shift, strict=True):
        place = torch.arange(length, device=device)
        sides.append((place >= length - size).long() + (place >= length - step).long())
    region = sides[0][:, None] * 3 + sides[1]
    cells = _split_windows(region[None, ..., None], window)[0, ..., 0]
    return (cells[:, :, None] != cells[:, None]) * -100.0


class Swin(nn.Module):
    """Four maps at strides 4, 8, 16 and 32, each with a layer norm of its own.

    Args:
        dim: channels of the first stage; each further stage has twice as many.
        depths, heads: of the four stages.
        window: side of a window in cells.
        drop_path: stochastic depth of the last block, rising linearly from 0.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(
        self, dim: int, depths: Sequence[int], heads: Sequence[int], window: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        block = partial(SwinTransformerBlock, attn_layer=ShiftedWindowAttention)
        whole = SwinTransformer(
            [4, 4],
            dim,
            list(depths),
            list(heads),
            [window, window],
            stochastic_depth_prob=drop_path,
            num_classes=1,
            block=block,
        )
        self.patch_embed = whole.features[0]
        self.stages = nn.ModuleList(whole.features[1::2])
        self.merges = nn.ModuleList(whole.features[2::2])
        self.channels = tuple(dim * 2**i for i in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> four maps (N, channels[i], h, w), h = ceil(H / strides[i])."""
        height, width = images.shape[-2:]
        x = self.patch_embed(F.pad(images, (0, -width % 4, 0, -height % 4)))
        maps = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
            if i < len(self.merges):
                x = self.merges[i](x)
        return tuple(maps)
