"""What methods on Mask2Former's blocks share: frames through backbone and pixel decoder, clips through query layers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

import torch
from torch import Tensor

from syncvis.feature_cache import FeatureCache
from syncvis.losses.views import Points, Supervision
from syncvis.methods.assemble import D, MaskedParts
from syncvis.methods.base import MASKED_PARTS, Method
from syncvis.methods.frozen import KeptFeatures, one_by_one
from syncvis.models.pixel_decoder import PixelFeatures
from syncvis.outputs import ClipFeatures, ClipOutput
from syncvis.structures import ClipBatch, ClipTarget, Window, fold, unfold

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Of ImageNet's pixels, RGB, 0..255 (detectron2's configs)."""


class MaskedMethod(Method, Generic[D]):
    """Backbone, pixel decoder, query decoder and criterion in a row.

    A method on top overrides :meth:`clip_losses`, :meth:`decode` or :meth:`features`, and says what :meth:`stream` is.

    Attributes:
        kept: features of frames that a frozen encoder has seen before; None: they are computed each time.
    """

    parts = MASKED_PARTS
    kept: KeptFeatures | None = None
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, parts: MaskedParts[D]) -> None:
        super().__init__()
        self.backbone, self.pixel_decoder, self.decoder = parts.backbone, parts.pixel_decoder, parts.decoder
        self.criterion, self.subclips, self.decode_per_window = parts.criterion, parts.subclips, parts.decode_per_window
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD)[:, None, None], persistent=False)

    def normalise(self, images: Tensor, valid: Tensor) -> Tensor:
        """What the backbone reads: ImageNet's mean and deviation taken out, zero in the padding.

        In the scale of pixels, 0..255, so that nothing is rounded in another way than in detectron2.
        """
        return (images * 255 - self.pixel_mean) / self.pixel_std * valid[:, :, None]

    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        """images (B, T, 3, H, W) in [0, 1], valid (B, T, H, W) -> ClipFeatures; each frame by itself."""
        return self.features(self.pixels(images, valid), images.shape[1])

    def pixels(self, images: Tensor, valid: Tensor) -> PixelFeatures:
        """The same -> what the pixel decoder makes of the B*T frames; the frozen parts build no graph."""
        frames = fold(self.normalise(images, valid))
        if self.has_frozen_encoder:
            return one_by_one(lambda x: self.pixel_decoder(self.backbone(x)).guided(), frames)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen("backbone")):
            maps = self.backbone(frames)
        found: PixelFeatures = self.pixel_decoder(maps)
        return found

    def encode_batch(self, batch: ClipBatch) -> ClipFeatures:
        if self.kept is None or not batch.digests:
            return self.encode(batch.images, batch.valid)
        return self.features(self.kept.of(batch, self.pixels), batch.num_frames)

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether nothing that makes features of pixels learns."""
        return self.is_frozen("backbone") and self.is_frozen("pixel_decoder")

    def keep_features(self, cache: FeatureCache, identity: Callable[[], str]) -> bool:
        """Let :meth:`encode_batch` keep what it computes of frames, where it may; gives whether it may.

        Args:
            identity: see :class:`KeptFeatures`.
        """
        own = type(self)
        if not self.has_frozen_encoder or own.encode is not MaskedMethod.encode:
            return False
        self.kept = KeptFeatures(cache, functools.cache(identity), raw=own.features is not MaskedMethod.features)
        return True

    def features(self, pixels: PixelFeatures, num_frames: int) -> ClipFeatures:
        """What the pixel decoder makes of B*T frames, as features of B clips."""
        levels = [unfold(x, num_frames) for x in pixels.levels]
        return ClipFeatures.of(levels, unfold(pixels.mask, num_frames), guides=pixels.guides)

    def decode(self, features: ClipFeatures) -> ClipOutput:
        output: ClipOutput = self.decoder(features)
        return output

    def losses(self, batch: ClipBatch, points: Points | None = None, progress: float = 1.0) -> dict[str, Tensor]:
        """Losses of the whole clip and, if the config has sub-clips, of these; see :class:`Method`."""
        features, source = self.encode_batch(batch), points or self.criterion.points
        windows, whole = self.subclips(batch.num_frames), Window.whole(batch.num_frames)
        if not self.decode_per_window:
            return self.clip_losses(features, batch.targets, [whole, *windows], source)
        losses = self.clip_losses(features, batch.targets, [whole], source)
        for window in windows:
            losses.update(self._window_losses(features, batch.targets, window))
        return losses

    def clip_losses(
        self, features: ClipFeatures, targets: Sequence[ClipTarget], windows: Sequence[Window], points: Points
    ) -> dict[str, Tensor]:
        """Decode a clip once; losses of the clip, which is the first window, and of the other windows."""
        return self.criterion.levels(self.decode(features), Supervision(targets, points), windows)[0]

    def _window_losses(
        self, features: ClipFeatures, targets: Sequence[ClipTarget], window: Window
    ) -> dict[str, Tensor]:
        """Losses of the tubes of a window that is decoded as a clip of its own."""
        inside = [t.window(window.frames) for t in targets]
        alone = replace(window, frames=tuple(range(len(window.frames))))
        losses = self.clip_losses(features.window(window.frames), inside, [alone], self.criterion.points)
        return {name: value for name, value in losses.items() if name.split("/")[0].endswith(window.name)}
