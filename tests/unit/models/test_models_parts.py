"""Attention against PyTorch's, the visible cells of masked attention, backbone and pixel decoder layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import level_output
from torch import nn

from syncvis.models.attention import Attention, FeedForward
from syncvis.models.backbone import TinyBackbone
from syncvis.models.decoder import _visible
from syncvis.models.pixel_decoder import PixelDecoder, _cell_centres
from syncvis.outputs import ClipFeatures, LevelOutput


def test_attention_is_pytorchs_multi_head_attention() -> None:
    torch.manual_seed(0)
    own, reference = Attention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        for linear in (own.query, own.key, own.value, own.output):
            linear.bias.normal_()
        reference.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        reference.in_proj_bias.copy_(torch.cat([own.query.bias, own.key.bias, own.value.bias]))
        reference.out_proj.load_state_dict(own.output.state_dict())
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    visible = torch.rand(2, 3, 5) < 0.6
    visible[..., 0] = True
    for mask in (None, visible):
        hidden = None if mask is None else ~mask.repeat_interleave(2, 0)
        wanted = reference(query, key, value, attn_mask=hidden, need_weights=False)[0]
        torch.testing.assert_close(own(query, key, value, mask), wanted)


def test_feed_forward_keeps_its_residual() -> None:
    ffn = FeedForward(4, 6)
    with torch.no_grad():
        ffn.linear2.weight.zero_()
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(ffn(x), nn.functional.layer_norm(x, (4,)))


def test_visible_cells() -> None:
    """A query sees the foreground of its mask, at the size of the feature map; without any it sees all."""
    left, nothing, last_frame = (torch.full((2, 4, 4), -1.0) for _ in range(3))
    left[:, :, :2] = 1
    left[:, :2, :2] = 0  # the threshold itself
    last_frame[1] = 1
    masks = torch.stack([left, nothing, last_frame])[None]  # (1, Q, T, h, w)

    def visible(output: LevelOutput) -> list[Any]:
        features = ClipFeatures.of([torch.zeros(1, 2, 8, 2, 2)], output.mask_features)
        return _visible(output, features.guides[0]).tolist()

    columns, everything, nowhere = [True, False] * 2, [True] * 4, [False] * 4
    video = visible(level_output("video", torch.zeros(1, 3, 2), masks))
    assert video == [[columns * 2, everything * 2, nowhere + everything]]
    frame = visible(level_output("frame", torch.zeros(1, 2, 3, 2), masks.transpose(1, 2)))
    assert frame == [[columns, everything, everything], [columns, everything, everything]]


@pytest.mark.parametrize("base_stride", [2, 4])
def test_backbone_keeps_its_promise(base_stride: int) -> None:
    backbone = TinyBackbone(8, base_stride)
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert backbone.channels == (8, 16, 32, 64)
    assert backbone.strides == tuple(base_stride * s for s in (1, 2, 4, 8))
    for x, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert x.shape == (2, channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("layers", [0, 2])
def test_pixel_decoder_layout(layers: int) -> None:
    decoder = PixelDecoder((8, 16, 32, 64), 32, 12, layers, heads=2, points=2, ffn_dim=16)
    maps = [torch.randn(2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate((8, 16, 32, 64))]
    features = decoder(maps)
    assert [tuple(x.shape) for x in features.levels] == [(2, 32, 2, 3), (2, 32, 4, 6), (2, 32, 8, 12)]
    assert features.mask.shape == (2, 12, 16, 24)
    alone = decoder([x[:1] for x in maps])
    torch.testing.assert_close(alone.mask, features.mask[:1])


def test_cell_centres_count_x_then_y_row_by_row() -> None:
    centres = _cell_centres(2, 4, torch.device("cpu"))
    assert centres[:4].tolist() == [[0.125, 0.25], [0.375, 0.25], [0.625, 0.25], [0.875, 0.25]]
    assert centres[4].tolist() == [0.125, 0.75]
