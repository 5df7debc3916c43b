"""Config -> the parts that methods are built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import nn

from syncvis.config import (
    AGGREGATIONS,
    BackboneConfig,
    ModelConfig,
    ResNetConfig,
    RunConfig,
    SyncConfig,
    TinyBackboneConfig,
)
from syncvis.losses.criterion import Criterion
from syncvis.losses.mask_losses import REDUCTIONS
from syncvis.losses.points import RandomPoints
from syncvis.models.attention import Attention, FeedForward
from syncvis.models.backbone import Backbone, TinyBackbone
from syncvis.models.decoder import CascadeDecoder, DecoderLayer, DecoderStack, QueryDecoder, QuerySet, Sync, no_sync
from syncvis.models.heads import Heads
from syncvis.models.pixel_decoder import PixelDecoder
from syncvis.models.resnet import ResNet
from syncvis.models.swin import SIZES, Swin
from syncvis.references import load
from syncvis.structures import Level, Window
from syncvis.sync.module import READERS, Exchange, QuerySync
from syncvis.sync.subclips import subclip_windows

D = TypeVar("D", bound=QueryDecoder | CascadeDecoder, covariant=True)


@dataclass(frozen=True)
class MaskedParts(Generic[D]):
    """The parts of a method on Mask2Former's blocks, with a decoder of kind D.

    Attributes:
        subclips: T -> the windows that get losses besides the whole clip.
        decode_per_window: run the decoder on each window instead of cutting the losses of one pass.
    """

    backbone: Backbone
    pixel_decoder: PixelDecoder
    decoder: D
    criterion: Criterion
    subclips: Callable[[int], list[Window]]
    decode_per_window: bool


def masked_parts(
    config: RunConfig,
    num_classes: int,
    decoder: Callable[[RunConfig, int], D],
) -> MaskedParts[D]:
    """The parts that a run config describes, with the query decoder of a method."""
    backbone = build_backbone(config.model.backbone)
    return MaskedParts(
        backbone,
        build_pixel_decoder(config.model, backbone.channels),
        decoder(config, num_classes),
        build_criterion(config),
        subclip_plan(config),
        config.subclips is not None and config.subclips.placement == "decode",
    )


def build_backbone(config: BackboneConfig) -> Backbone:
    if isinstance(config, TinyBackboneConfig):
        return TinyBackbone(config.width, config.base_stride)
    if isinstance(config, ResNetConfig):
        return ResNet(config.name, config.width, config.norm, config.freeze_at)
    dim, depths, heads, window = SIZES[config.name]
    return Swin(
        config.dim or dim,
        config.depths or depths,
        config.heads or heads,
        config.window or window,
        config.drop_path,
    )


def build_pixel_decoder(config: ModelConfig, channels: Sequence[int]) -> PixelDecoder:
    """``channels``: of the backbone's maps, fine to coarse."""
    pixel = config.pixel_decoder
    sizes = (pixel.layers, pixel.heads, pixel.points, pixel.ffn_dim)
    return PixelDecoder(channels, config.hidden_dim, config.mask_dim, *sizes)


def build_stack(config: ModelConfig, num_classes: int) -> DecoderStack:
    """The layers and heads of one query set."""
    dim, decoder = config.hidden_dim, config.decoder
    layers = [DecoderLayer(dim, decoder.heads, decoder.ffn_dim) for _ in range(decoder.layers)]
    return DecoderStack(layers, Heads(dim, config.mask_dim, num_classes), dim)


def build_query_decoder(config: RunConfig, num_classes: int, levels: Sequence[Level]) -> QueryDecoder:
    """A decoder of frame queries, video queries or both; the exchange between both is there if ``sync`` is set."""
    model, decoder = config.model, config.model.decoder
    sizes: dict[Level, int] = {"frame": decoder.frame_queries, "video": decoder.video_queries}
    query_sets = {level: QuerySet(sizes[level], model.hidden_dim) for level in levels}
    first = build_stack(model, num_classes)
    stacks = {
        level: first if decoder.shared or i == 0 else build_stack(model, num_classes) for i, level in enumerate(levels)
    }
    syncs = build_syncs(config.sync, model, decoder.layers)
    return QueryDecoder(query_sets, stacks, syncs, decoder.time_code)


def build_online_decoder(config: RunConfig, num_classes: int) -> QueryDecoder:
    """A decoder of frame queries, and of video queries beside them where a module of SyncVIS needs them."""
    alone = config.sync is None and config.subclips is None
    return build_query_decoder(config, num_classes, ["frame"] if alone else ["frame", "video"])


def build_syncs(config: SyncConfig | None, model: ModelConfig, layers: int) -> list[Sync]:
    """One exchange, shared by all layers; after the last one too, since the heads predict from what it gives."""
    if config is None:
        return [no_sync] * layers
    dim, decoder = model.hidden_dim, model.decoder
    exchanges: dict[Level, Exchange] = {
        reader: Exchange(
            Attention(dim, decoder.heads),
            FeedForward(dim, decoder.ffn_dim) if config.query_ffn else nn.Identity(),
            config.momentum,
        )
        for reader in READERS[config.order]
    }
    sync = QuerySync(exchanges, load(config.aggregation, AGGREGATIONS), config.num_selected)
    return [sync] * layers


def build_criterion(config: RunConfig) -> Criterion:
    criterion = config.criterion
    return Criterion(
        criterion.class_weight,
        criterion.mask_weight,
        criterion.dice_weight,
        criterion.no_object_weight,
        criterion.frame_factor,
        RandomPoints(criterion.points, criterion.oversample, criterion.importance),
        REDUCTIONS[criterion.tube_reduction],
        config.subclips is None or config.subclips.absent == "ignore",
    )


def subclip_plan(config: RunConfig) -> Callable[[int], list[Window]]:
    """T -> the sub-clips of a clip; none without ``subclips``."""
    subclips = config.subclips
    if subclips is None:
        return lambda num_frames: []
    return lambda t: subclip_windows(
        t, subclips.size, subclips.windows, subclips.weights, subclips.factor, subclips.step
    )
