"""Mask2Former-VIS (arXiv 2112.10764) as the base of SyncVIS: offline, the whole clip is decoded at once.

With video queries only it is Mask2Former-VIS; with frame queries, an exchange and sub-clips it is SyncVIS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from syncvis.config import BackboneConfig, CriterionConfig, ResNetConfig, RunConfig, SyncConfig, TinyBackboneConfig
from syncvis.losses.criterion import Criterion
from syncvis.losses.mask_losses import REDUCTIONS
from syncvis.losses.points import PointSource, RandomPoints
from syncvis.methods.base import MASKED_PARTS, Method
from syncvis.models.attention import Attention, FeedForward
from syncvis.models.backbone import Backbone, TinyBackbone
from syncvis.models.decoder import (
    CascadeDecoder,
    DecoderLayer,
    DecoderStack,
    QueryDecoder,
    QuerySet,
    Sync,
    no_sync,
)
from syncvis.models.heads import Heads
from syncvis.models.pixel_decoder import PixelDecoder
from syncvis.models.resnet import ResNet
from syncvis.models.swin import SIZES, Swin
from syncvis.structures import ClipBatch, ClipFeatures, ClipOutput, Level, Window, fold, unfold
from syncvis.sync.aggregation import STRATEGIES
from syncvis.sync.module import READERS, Exchange, QuerySync
from syncvis.sync.subclips import subclip_windows

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Of ImageNet's pixels, RGB, 0..255 (detectron2's configs)."""


class Mask2FormerVIS(Method):
    """Backbone, pixel decoder, query decoder and criterion in a row.

    Args:
        subclips: T -> the windows that get losses besides the whole clip.
        decode_per_window: run the decoder on each window instead of cutting the losses of one pass.
    """

    parts = MASKED_PARTS
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        pixel_decoder: PixelDecoder,
        decoder: QueryDecoder | CascadeDecoder,
        criterion: Criterion,
        subclips: Callable[[int], list[Window]],
        decode_per_window: bool,
    ) -> None:
        super().__init__()
        self.backbone, self.pixel_decoder, self.decoder = backbone, pixel_decoder, decoder
        self.criterion, self.subclips, self.decode_per_window = criterion, subclips, decode_per_window
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD)[:, None, None], persistent=False)

    def normalise(self, images: Tensor, valid: Tensor) -> Tensor:
        """What the backbone reads: ImageNet's mean and deviation taken out, zero in the padding.

        In the scale of pixels, 0..255, so that nothing is rounded in another way than in detectron2.
        """
        return (images * 255 - self.pixel_mean) / self.pixel_std * valid[:, :, None]

    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        """images (B, T, 3, H, W) in [0, 1], valid (B, T, H, W) -> ClipFeatures; each frame by itself."""
        features = self.pixel_decoder(self.backbone(fold(self.normalise(images, valid))))
        num_frames = images.shape[1]
        return ClipFeatures.of([unfold(x, num_frames) for x in features.levels], unfold(features.mask, num_frames))

    def decode(self, features: ClipFeatures, memory: Tensor | None = None) -> tuple[ClipOutput, Tensor | None]:
        """Offline: nothing is remembered between clips, ``memory`` is handed through."""
        return self.decoder(features), memory

    def losses(self, batch: ClipBatch, progress: float = 1.0, points: PointSource | None = None) -> dict[str, Tensor]:
        """Named, weighted losses of a batch with targets; ``points`` are the ones to use instead of drawing them."""
        features = self.encode(batch.images, batch.valid)
        output, _ = self.decode(features)
        windows = self.subclips(batch.num_frames)
        whole = Window.whole(batch.num_frames)
        if not self.decode_per_window:
            return self.criterion(output, batch.targets, [whole, *windows], points)
        losses = self.criterion(output, batch.targets, [whole], points)
        for window in windows:
            losses.update(self._window_losses(features, batch, window))
        return losses

    def _window_losses(self, features: ClipFeatures, batch: ClipBatch, window: Window) -> dict[str, Tensor]:
        output, _ = self.decode(features.window(window.frames))
        targets = [t.window(window.frames) for t in batch.targets]
        alone = replace(window, frames=tuple(range(len(window.frames))))
        losses = self.criterion(output, targets, [alone])
        return {name: value for name, value in losses.items() if name.startswith(f"{alone.name}/")}


def build(config: RunConfig, num_classes: int) -> Mask2FormerVIS:
    """Assemble the model that a run config describes."""
    model = config.model
    backbone = _build_backbone(model.backbone)
    pixel = model.pixel_decoder
    pixel_decoder = PixelDecoder(
        backbone.channels,
        model.hidden_dim,
        model.mask_dim,
        pixel.layers,
        pixel.heads,
        pixel.points,
        pixel.ffn_dim,
    )
    absent = "ignore" if config.subclips is None else config.subclips.absent
    return Mask2FormerVIS(
        backbone,
        pixel_decoder,
        _build_decoder(config, num_classes),
        build_criterion(config.criterion, absent == "ignore"),
        _subclip_plan(config),
        config.subclips is not None and config.subclips.placement == "decode",
    )


def _build_backbone(config: BackboneConfig) -> Backbone:
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


def build_criterion(config: CriterionConfig, ignore_absent: bool) -> Criterion:
    return Criterion(
        config.class_weight,
        config.mask_weight,
        config.dice_weight,
        config.no_object_weight,
        config.frame_factor,
        RandomPoints(config.points, config.oversample, config.importance),
        REDUCTIONS[config.tube_reduction],
        ignore_absent,
    )


def _subclip_plan(config: RunConfig) -> Callable[[int], list[Window]]:
    subclips = config.subclips
    if subclips is None:
        return lambda num_frames: []
    return lambda t: subclip_windows(t, subclips.size, subclips.windows, subclips.weights, subclips.factor)


def _build_decoder(config: RunConfig, num_classes: int) -> QueryDecoder | CascadeDecoder:
    model, decoder = config.model, config.model.decoder
    dim = model.hidden_dim

    def stack() -> DecoderStack:
        layers = [DecoderLayer(dim, decoder.heads, decoder.ffn_dim) for _ in range(decoder.layers)]
        return DecoderStack(layers, Heads(dim, model.mask_dim, num_classes), dim)

    sizes: dict[Level, int] = {"frame": decoder.frame_queries, "video": decoder.video_queries}
    levels: dict[str, tuple[Level, ...]] = {
        "synchronous": ("frame", "video"),
        "cascade": ("frame",),
        "frame_only": ("frame",),
        "video_only": ("video",),
    }
    query_sets = {level: QuerySet(sizes[level], dim) for level in levels[config.method.structure]}
    first = stack()
    stacks = {level: first if decoder.shared or i == 0 else stack() for i, level in enumerate(query_sets)}
    syncs = _build_syncs(config.sync, dim, decoder.heads, decoder.ffn_dim, decoder.layers)
    queries = QueryDecoder(query_sets, stacks, syncs, decoder.time_code)
    if config.method.structure == "cascade":
        return CascadeDecoder(queries, QuerySet(decoder.video_queries, dim), stack(), decoder.time_code)
    return queries


def _build_syncs(config: SyncConfig | None, dim: int, heads: int, ffn_dim: int, layers: int) -> list[Sync]:
    """One exchange, shared by all layers but the last: what the last one changes would never be read again."""
    if config is None:
        return [no_sync] * layers
    exchanges: dict[Level, Exchange] = {
        reader: Exchange(
            Attention(dim, heads),
            FeedForward(dim, ffn_dim) if config.query_ffn else nn.Identity(),
            config.momentum,
        )
        for reader in READERS[config.order]
    }
    sync = QuerySync(exchanges, STRATEGIES[config.aggregation], config.num_selected)
    return [sync] * (layers - 1) + [no_sync]
