"""Modules that own parameters under the published names, in sizes of our choice; they compute nothing.

The names follow from the way the published code nests its modules, not from the tables under test.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def swin(output_norms: bool = True) -> nn.Module:
    """Microsoft's Swin; ``output_norms`` as Mask2Former has them, otherwise the head of ImageNet."""
    dims = [SWIN["dim"] * 2**i for i in range(4)]
    layers = nn.ModuleList(_swin_layer(i, dim) for i, dim in enumerate(dims))
    patches = node(proj=nn.Conv2d(3, dims[0], 4, 4), norm=nn.LayerNorm(dims[0]))
    if output_norms:
        ends: dict[str, nn.Module] = {f"norm{i}": nn.LayerNorm(dim) for i, dim in enumerate(dims)}
    else:
        ends = {"norm": nn.LayerNorm(dims[-1]), "head": nn.Linear(dims[-1], 10)}
    return node(patch_embed=patches, layers=layers, **ends)


def _swin_layer(index: int, dim: int) -> nn.Module:
    blocks = nn.ModuleList(
        _swin_block(dim, SWIN["heads"][index], shifted=j % 2 == 1) for j in range(SWIN["depths"][index])
    )
    if index == 3:
        return node(blocks=blocks)
    merge = node(norm=nn.LayerNorm(4 * dim), reduction=nn.Linear(4 * dim, 2 * dim, bias=False))
    return node(blocks=blocks, downsample=merge)


def _swin_block(dim: int, heads: int, shifted: bool) -> nn.Module:
    window = SWIN["window"]
    attn = node(qkv=nn.Linear(dim, 3 * dim), proj=nn.Linear(dim, dim))
    attn.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
    attn.register_buffer("relative_position_index", torch.zeros(window**2, window**2, dtype=torch.long))
    mlp = node(fc1=nn.Linear(dim, 4 * dim), fc2=nn.Linear(4 * dim, dim))
    block = node(norm1=nn.LayerNorm(dim), attn=attn, norm2=nn.LayerNorm(dim), mlp=mlp)
    if shifted:
        block.register_buffer("attn_mask", torch.zeros(4, window**2, window**2))
    return block


def pixel_decoder(channels: Sequence[int]) -> nn.Module:
    layers = nn.ModuleList(
        node(
            self_attn=node(
                sampling_offsets=nn.Linear(DIM, HEADS * 3 * POINTS * 2),
                attention_weights=nn.Linear(DIM, HEADS * 3 * POINTS),
                value_proj=nn.Linear(DIM, DIM),
                output_proj=nn.Linear(DIM, DIM),
            ),
            norm1=nn.LayerNorm(DIM),
            linear1=nn.Linear(DIM, ENCODER_FFN),
            linear2=nn.Linear(ENCODER_FFN, DIM),
            norm2=nn.LayerNorm(DIM),
        )
        for _ in range(ENCODER_LAYERS)
    )
    transformer = node(encoder=node(layers=layers))
    transformer.level_embed = nn.Parameter(torch.zeros(3, DIM))
    projections = nn.ModuleList(
        nn.Sequential(nn.Conv2d(c, DIM, 1), nn.GroupNorm(32, DIM)) for c in reversed(channels[1:])
    )
    return node(
        input_proj=projections,
        transformer=transformer,
        mask_features=nn.Conv2d(DIM, MASK_DIM, 1),
        adapter_1=NormedConv(channels[0], DIM, 1, nn.GroupNorm(32, DIM)),
        layer_1=NormedConv(DIM, DIM, 3, nn.GroupNorm(32, DIM)),
    )


def predictor(classes: int, extra_queries: Sequence[str] = ()) -> nn.Module:
    def layers(**make: Any) -> nn.ModuleList:
        return nn.ModuleList(node(**{k: f() for k, f in make.items()}) for _ in range(DECODER_LAYERS))

    def attention() -> nn.Module:
        return nn.MultiheadAttention(DIM, HEADS)

    def norm() -> nn.Module:
        return nn.LayerNorm(DIM)

    queries = ("query_feat", "query_embed", *extra_queries)
    return node(
        transformer_self_attention_layers=layers(self_attn=attention, norm=norm),
        transformer_cross_attention_layers=layers(multihead_attn=attention, norm=norm),
        transformer_ffn_layers=layers(
            linear1=lambda: nn.Linear(DIM, FFN), linear2=lambda: nn.Linear(FFN, DIM), norm=norm
        ),
        decoder_norm=norm(),
        level_embed=nn.Embedding(3, DIM),
        class_embed=nn.Linear(DIM, classes + 1),
        mask_embed=node(layers=nn.ModuleList([nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, MASK_DIM)])),
        **{name: nn.Embedding(QUERIES, DIM) for name in queries},
    )


def feed_forward(hidden: int = FFN) -> nn.Module:
    return node(linear1=nn.Linear(DIM, hidden), linear2=nn.Linear(hidden, DIM), norm=nn.LayerNorm(DIM))


def temporal_module(classes: int, module: str = "vita") -> nn.Module:
    """VITA's second stage; ``module`` is its name, which the name of its mask map begins with."""

    def layers(number: int, **make: Any) -> nn.ModuleList:
        return nn.ModuleList(node(**{k: f() for k, f in make.items()}) for _ in range(number))

    def attention() -> nn.Module:
        return nn.MultiheadAttention(DIM, HEADS)

    def norm() -> nn.Module:
        return nn.LayerNorm(DIM)

    def ffns(number: int) -> nn.ModuleList:
        return nn.ModuleList(feed_forward(CLIP_FFN) for _ in range(number))

    return node(
        enc_self_attn=layers(TEMPORAL_ENCODER_LAYERS, self_attn=attention, norm=norm),
        enc_ffn=ffns(TEMPORAL_ENCODER_LAYERS),
        transformer_self_attention_layers=layers(CLIP_LAYERS, self_attn=attention, norm=norm),
        transformer_cross_attention_layers=layers(CLIP_LAYERS, multihead_attn=attention, norm=norm),
        transformer_ffn_layers=ffns(CLIP_LAYERS),
        decoder_norm=norm(),
        query_feat=nn.Embedding(CLIP_QUERIES, DIM),
        query_embed=nn.Embedding(CLIP_QUERIES, DIM),
        fq_pos=nn.Embedding(QUERIES, DIM),
        input_proj_dec=nn.Linear(DIM, DIM),
        class_embed=nn.Linear(DIM, classes + 1),
        mask_embed=node(layers=nn.ModuleList([nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, MASK_DIM)])),
        sim_embed_frame=nn.Linear(DIM, DIM),
        sim_embed_clip=nn.Linear(DIM, DIM),
        **{f"{module}_mask_features": nn.Conv2d(DIM, MASK_DIM, 1)},
    )


def vita(classes: int = 5, module: str = "vita", **more: Any) -> dict[str, Tensor]:
    """State dict of VITA."""
    parts = {f"{module}_module": temporal_module(classes, module), f"{module}_criterion": criterion(classes)}
    return mask2former(classes, **parts, **more)


def criterion(classes: int) -> nn.Module:
    loss = nn.Module()
    loss.register_buffer("empty_weight", torch.ones(classes + 1))
    return loss


def random_state(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The state dict with every number its own."""
    generator = torch.Generator().manual_seed(seed)
    state = module.state_dict()
    return {k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()}


def mask2former(classes: int = 5, backbone: nn.Module | None = None, **more: nn.Module) -> dict[str, Tensor]:
    """State dict of Mask2Former and of Mask2Former-VIS, which have the same names."""
    channels = [4 * WIDTH * 2**i for i in range(4)] if backbone is None else [SWIN["dim"] * 2**i for i in range(4)]
    head = node(pixel_decoder=pixel_decoder(channels), predictor=predictor(classes))
    whole = node(backbone=backbone or resnet(), sem_seg_head=head, criterion=criterion(classes), **more)
    return random_state(whole)


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
