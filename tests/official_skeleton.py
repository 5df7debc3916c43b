"""Modules that own parameters under the published names, in sizes of our choice; they compute nothing.

The names follow from the way the published code nests its modules, not from the tables under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

DIM, MASK_DIM, FFN, ENCODER_FFN, QUERIES, WIDTH = 32, 16, 24, 40, 6, 8
ENCODER_LAYERS, DECODER_LAYERS, HEADS, POINTS = 2, 3, 4, 2
CLIP_QUERIES, TEMPORAL_ENCODER_LAYERS, CLIP_LAYERS, CLIP_FFN = 4, 3, 2, 28
DEPTHS = (3, 4, 6, 3)
SWIN: dict[str, Any] = {"dim": 12, "depths": (1, 2, 2, 1), "heads": (1, 2, 3, 4), "window": 2}

MODEL_CONFIG: dict[str, Any] = {
    "hidden_dim": DIM,
    "mask_dim": MASK_DIM,
    "backbone": {"name": "resnet50", "width": WIDTH},
    "pixel_decoder": {"layers": ENCODER_LAYERS, "heads": HEADS, "points": POINTS, "ffn_dim": ENCODER_FFN},
    "decoder": {
        "layers": DECODER_LAYERS,
        "heads": HEADS,
        "ffn_dim": FFN,
        "frame_queries": QUERIES,
        "video_queries": QUERIES,
    },
}
"""The same sizes in our words."""


@dataclass(frozen=True)
class Sizes:
    """Of a model; by default small ones that differ, so that a mix-up does not fit."""

    dim: int = DIM
    mask_dim: int = MASK_DIM
    ffn: int = FFN
    encoder_ffn: int = ENCODER_FFN
    queries: int = QUERIES
    width: int = WIDTH
    encoder_layers: int = ENCODER_LAYERS
    decoder_layers: int = DECODER_LAYERS
    heads: int = HEADS
    points: int = POINTS
    clip_queries: int = CLIP_QUERIES
    temporal_encoder_layers: int = TEMPORAL_ENCODER_LAYERS
    clip_layers: int = CLIP_LAYERS
    clip_ffn: int = CLIP_FFN
    depths: tuple[int, ...] = DEPTHS
    swin: dict[str, Any] = field(default_factory=lambda: SWIN)


SMALL = Sizes()


def node(**children: nn.Module) -> nn.Module:
    """A module that has children and nothing else."""
    parent = nn.Module()
    for name, child in children.items():
        parent.add_module(name, child)
    return parent


class NormedConv(nn.Conv2d):
    """detectron2's convolution, which holds its norm."""

    def __init__(self, inputs: int, outputs: int, size: int, norm: nn.Module) -> None:
        super().__init__(inputs, outputs, size, bias=False)
        self.norm = norm


def resnet(width: int = WIDTH, depths: Sequence[int] = DEPTHS) -> nn.Module:
    """detectron2's ResNet of bottleneck blocks."""

    def conv(inputs: int, outputs: int, size: int) -> NormedConv:
        return NormedConv(inputs, outputs, size, FrozenBatchNorm2d(outputs))

    parts: dict[str, nn.Module] = {"stem": node(conv1=conv(3, width, 7))}
    inputs = width
    for stage, depth in enumerate(depths):
        planes, blocks = width * 2**stage, nn.ModuleList()
        for index in range(depth):
            convs = {"conv1": conv(inputs, planes, 1), "conv2": conv(planes, planes, 3)}
            shortcut = {} if index else {"shortcut": conv(inputs, 4 * planes, 1)}
            blocks.append(node(**shortcut, **convs, conv3=conv(planes, 4 * planes, 1)))
            inputs = 4 * planes
        parts[f"res{stage + 2}"] = blocks
    return node(**parts)


def swin(output_norms: bool = True, sizes: Sizes = SMALL) -> nn.Module:
    """Microsoft's Swin; ``output_norms`` as Mask2Former has them, otherwise the head of ImageNet."""
    dims = [sizes.swin["dim"] * 2**i for i in range(4)]
    layers = nn.ModuleList(_swin_layer(i, dim, sizes.swin) for i, dim in enumerate(dims))
    patches = node(proj=nn.Conv2d(3, dims[0], 4, 4), norm=nn.LayerNorm(dims[0]))
    if output_norms:
        ends: dict[str, nn.Module] = {f"norm{i}": nn.LayerNorm(dim) for i, dim in enumerate(dims)}
    else:
        ends = {"norm": nn.LayerNorm(dims[-1]), "head": nn.Linear(dims[-1], 10)}
    return node(patch_embed=patches, layers=layers, **ends)


def _swin_layer(index: int, dim: int, swin: dict[str, Any]) -> nn.Module:
    blocks = nn.ModuleList(
        _swin_block(dim, swin["heads"][index], swin["window"], shifted=j % 2 == 1) for j in range(swin["depths"][index])
    )
    if index == 3:
        return node(blocks=blocks)
    merge = node(norm=nn.LayerNorm(4 * dim), reduction=nn.Linear(4 * dim, 2 * dim, bias=False))
    return node(blocks=blocks, downsample=merge)


def _swin_block(dim: int, heads: int, window: int, shifted: bool) -> nn.Module:
    attn = node(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim))
    attn.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
    attn.register_buffer("relative_position_index", torch.zeros(window**2, window**2, dtype=torch.long))
    mlp = node(fc1=nn.Linear(dim, 4 * dim), fc2=nn.Linear(4 * dim, dim))
    block = node(norm1=nn.LayerNorm(dim), attn=attn, norm2=nn.LayerNorm(dim), mlp=mlp)
    if shifted:
        block.register_buffer("attn_mask", torch.zeros(4, window**2, window**2))
    return block


def pixel_decoder(channels: Sequence[int], sizes: Sizes = SMALL) -> nn.Module:
    layers = nn.ModuleList(
        node(
            self_attn=node(
                sampling_offsets=nn.Linear(sizes.dim, sizes.heads * 3 * sizes.points * 2),
                attention_weights=nn.Linear(sizes.dim, sizes.heads * 3 * sizes.points),
                value_proj=nn.Linear(sizes.dim, sizes.dim),
                output_proj=nn.Linear(sizes.dim, sizes.dim),
            ),
            norm1=nn.LayerNorm(sizes.dim),
            linear1=nn.Linear(sizes.dim, sizes.encoder_ffn),
            linear2=nn.Linear(sizes.encoder_ffn, sizes.dim),
            norm2=nn.LayerNorm(sizes.dim),
        )
        for _ in range(sizes.encoder_layers)
    )
    transformer = node(encoder=node(layers=layers))
    transformer.level_embed = nn.Parameter(torch.zeros(3, sizes.dim))
    projections = nn.ModuleList(
        nn.Sequential(nn.Conv2d(c, sizes.dim, 1), nn.GroupNorm(32, sizes.dim)) for c in reversed(channels[1:])
    )
    return node(
        input_proj=projections,
        transformer=transformer,
        mask_features=nn.Conv2d(sizes.dim, sizes.mask_dim, 1),
        adapter_1=NormedConv(channels[0], sizes.dim, 1, nn.GroupNorm(32, sizes.dim)),
        layer_1=NormedConv(sizes.dim, sizes.dim, 3, nn.GroupNorm(32, sizes.dim)),
    )


def predictor(classes: int, sizes: Sizes = SMALL) -> nn.Module:
    def layers(**make: Any) -> nn.ModuleList:
        return nn.ModuleList(node(**{k: f() for k, f in make.items()}) for _ in range(sizes.decoder_layers))

    def attention() -> nn.Module:
        return nn.MultiheadAttention(sizes.dim, sizes.heads)

    def norm() -> nn.Module:
        return nn.LayerNorm(sizes.dim)

    return node(
        transformer_self_attention_layers=layers(self_attn=attention, norm=norm),
        transformer_cross_attention_layers=layers(multihead_attn=attention, norm=norm),
        transformer_ffn_layers=layers(
            linear1=lambda: nn.Linear(sizes.dim, sizes.ffn), linear2=lambda: nn.Linear(sizes.ffn, sizes.dim), norm=norm
        ),
        decoder_norm=norm(),
        level_embed=nn.Embedding(3, sizes.dim),
        class_embed=nn.Linear(sizes.dim, classes + 1),
        mask_embed=node(
            layers=nn.ModuleList(
                [nn.Linear(sizes.dim, sizes.dim), nn.Linear(sizes.dim, sizes.dim), nn.Linear(sizes.dim, sizes.mask_dim)]
            )
        ),
        **{name: nn.Embedding(sizes.queries, sizes.dim) for name in ("query_feat", "query_embed")},
    )


def feed_forward(dim: int = DIM, hidden: int = FFN) -> nn.Module:
    return node(linear1=nn.Linear(dim, hidden), linear2=nn.Linear(hidden, dim), norm=nn.LayerNorm(dim))


def temporal_module(classes: int, module: str = "vita", sizes: Sizes = SMALL) -> nn.Module:
    """VITA's second stage; ``module`` is its name, which the name of its mask map begins with."""

    def layers(number: int, **make: Any) -> nn.ModuleList:
        return nn.ModuleList(node(**{k: f() for k, f in make.items()}) for _ in range(number))

    def attention() -> nn.Module:
        return nn.MultiheadAttention(sizes.dim, sizes.heads)

    def norm() -> nn.Module:
        return nn.LayerNorm(sizes.dim)

    def ffns(number: int) -> nn.ModuleList:
        return nn.ModuleList(feed_forward(sizes.dim, sizes.clip_ffn) for _ in range(number))

    return node(
        enc_self_attn=layers(sizes.temporal_encoder_layers, self_attn=attention, norm=norm),
        enc_ffn=ffns(sizes.temporal_encoder_layers),
        transformer_self_attention_layers=layers(sizes.clip_layers, self_attn=attention, norm=norm),
        transformer_cross_attention_layers=layers(sizes.clip_layers, multihead_attn=attention, norm=norm),
        transformer_ffn_layers=ffns(sizes.clip_layers),
        decoder_norm=norm(),
        query_feat=nn.Embedding(sizes.clip_queries, sizes.dim),
        query_embed=nn.Embedding(sizes.clip_queries, sizes.dim),
        fq_pos=nn.Embedding(sizes.queries, sizes.dim),
        input_proj_dec=nn.Linear(sizes.dim, sizes.dim),
        class_embed=nn.Linear(sizes.dim, classes + 1),
        mask_embed=node(
            layers=nn.ModuleList(
                [nn.Linear(sizes.dim, sizes.dim), nn.Linear(sizes.dim, sizes.dim), nn.Linear(sizes.dim, sizes.mask_dim)]
            )
        ),
        sim_embed_frame=nn.Linear(sizes.dim, sizes.dim),
        sim_embed_clip=nn.Linear(sizes.dim, sizes.dim),
        **{f"{module}_mask_features": nn.Conv2d(sizes.dim, sizes.mask_dim, 1)},
    )


def criterion(classes: int) -> nn.Module:
    loss = nn.Module()
    loss.register_buffer("empty_weight", torch.ones(classes + 1))
    return loss


def mask2former_model(
    classes: int = 5, backbone: nn.Module | None = None, sizes: Sizes = SMALL, **more: nn.Module
) -> nn.Module:
    """Mask2Former and Mask2Former-VIS, which have the same names; without a backbone of its own on a ResNet."""
    channels = (
        [4 * sizes.width * 2**i for i in range(4)] if backbone is None else [sizes.swin["dim"] * 2**i for i in range(4)]
    )
    head = node(pixel_decoder=pixel_decoder(channels, sizes), predictor=predictor(classes, sizes))
    backbone = backbone or resnet(sizes.width, sizes.depths)
    return node(backbone=backbone, sem_seg_head=head, criterion=criterion(classes), **more)


def vita_model(
    classes: int = 5, module: str = "vita", backbone: nn.Module | None = None, sizes: Sizes = SMALL, **more: nn.Module
) -> nn.Module:
    """VITA: a Mask2Former with a second stage."""
    parts = {f"{module}_module": temporal_module(classes, module, sizes), f"{module}_criterion": criterion(classes)}
    return mask2former_model(classes, backbone, sizes, **parts, **more)


def random_state(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The state dict with every number its own."""
    generator = torch.Generator().manual_seed(seed)
    state = module.state_dict()
    return {k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()}


def mask2former(classes: int = 5, backbone: nn.Module | None = None, **more: nn.Module) -> dict[str, Tensor]:
    """State dict of Mask2Former."""
    return random_state(mask2former_model(classes, backbone, **more))


def vita(classes: int = 5, module: str = "vita", **more: Any) -> dict[str, Tensor]:
    """State dict of VITA."""
    return random_state(vita_model(classes, module, **more))


def released_syncvis(module: str = "syncvis", classes: int = 5) -> dict[str, Tensor]:
    """State dict of the released SyncVIS; ``module`` names its second stage, "vita" and "vfi" in its ancestors."""
    state = vita(classes, module)
    extra = node(
        **{f"FFN_{i}": feed_forward() for i in (1, 2, 3)},
        multi_attn=nn.MultiheadAttention(DIM, HEADS),
        **{name: nn.Embedding(QUERIES, DIM) for name in ("query_embed1", *(f"query_feat{i}" for i in range(1, 6)))},
    )
    return state | {f"sem_seg_head.predictor.{k}": v for k, v in random_state(extra, seed=1).items()}


def ctvis(classes: int = 5) -> dict[str, Tensor]:
    """State dict of CTVIS: a Mask2Former with a head for re-identification."""
    head = node(reid_embed=node(layers=nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(3))))
    state = random_state(head, seed=2)
    return mask2former(classes) | {f"sem_seg_head.predictor.{k}": v for k, v in state.items()}
