"""The work of a frozen encoder, kept by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from syncvis.feature_cache import FeatureCache
from syncvis.models.pixel_decoder import PixelFeatures
from syncvis.structures import ClipBatch, fold

AT_ONCE = {"cpu": 1}
"""Frames that pass a frozen encoder together, by type of device; all of them where there is no bound.

On the CPU one by one, so that no bit of a frame's features depends on which others are in its batch: convolutions and
matrix products choose their kernels by the size of a batch.
"""


def one_by_one(encode: Callable[[Tensor], PixelFeatures], frames: Tensor) -> PixelFeatures:
    """Encode frames (N, 3, H, W) without a graph, so many at once as ``AT_ONCE`` says."""
    with torch.no_grad():
        return PixelFeatures.concat([encode(x) for x in frames.split(AT_ONCE.get(frames.device.type, len(frames)))])


@dataclass(frozen=True)
class KeptFeatures:
    """Features of frames in a cache.

    Attributes:
        identity: of all that makes features of pixels: weights, code, arithmetic. Asked for when features are first
            wanted: only then the weights are there, also in a run that is continued.
        raw: whether ``PixelFeatures.raw`` is kept, too.
    """

    cache: FeatureCache
    identity: Callable[[], str]
    raw: bool

    def of(self, batch: ClipBatch, encode: Callable[[Tensor, Tensor], PixelFeatures]) -> PixelFeatures:
        """Features of the B*T frames of a batch, those that are not kept by ``encode(images, valid)``.

        Each different frame is looked up, encoded and kept once.
        """
        keys = self._keys(batch)
        places = {key: place for place, key in reversed([*enumerate(keys)])}
        found = {key: self.cache.get(key) for key in places}
        missing = [key for key, tensors in found.items() if tensors is None]
        if missing:
            index = [places[key] for key in missing]
            new = encode(fold(batch.images)[index, None], fold(batch.valid)[index, None])
            for key, *tensors in zip(missing, *self._tensors(new), strict=True):
                found[key] = tuple(tensors)
                self.cache.put(key, tensors)
        columns = zip(*(found[key] or () for key in keys), strict=True)
        return self._features([torch.stack([x.to(batch.images.device) for x in column]) for column in columns])

    def _keys(self, batch: ClipBatch) -> list[str]:
        """What a frame's features depend on: the encoder, the precision, the padded size and the frame's own pixels."""
        device = batch.images.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        head = f"{self.identity()} {self.raw} {precision} {tuple(batch.images.shape[-2:])} ".encode()
        return [hashlib.sha256(head + digest).hexdigest() for clip in batch.digests for digest in clip]

    def _tensors(self, features: PixelFeatures) -> list[Tensor]:
        raw = [features.raw] if self.raw and features.raw is not None else []
        return [*features.levels, *(features.guides or ()), features.mask, *raw]

    def _features(self, tensors: list[Tensor]) -> PixelFeatures:
        raw = tensors.pop() if self.raw else None
        *maps, mask = tensors
        half = len(maps) // 2
        return PixelFeatures(tuple(maps[:half]), mask, raw, tuple(maps[half:]))
