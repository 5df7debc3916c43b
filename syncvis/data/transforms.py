"""Resizing and flipping a whole clip, images and masks together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from syncvis.config import DataConfig


@dataclass(frozen=True)
class ClipTransform:
    """What is done to every frame of one clip.

    Attributes:
        short_side: length of the shorter side in pixels.
        max_size: upper bound of the longer side; it wins over ``short_side``.
        flip: mirror left and right.
    """

    short_side: int
    max_size: int
    flip: bool = False

    @classmethod
    def draw(cls, config: DataConfig, rng: np.random.Generator) -> ClipTransform:
        """Draw the augmentation of one training clip."""
        short_side = config.short_side[int(rng.integers(len(config.short_side)))]
        return cls(short_side, config.max_size, flip=bool(rng.random() < config.flip))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size that a frame of ``height`` x ``width`` gets."""
        scale = min(self.short_side / min(height, width), self.max_size / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def images(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) uint8 -> (T, 3, H', W') float32 in [0, 1], bilinear with antialiasing."""
        size = self.size(*frames.shape[-2:])
        if size != tuple(frames.shape[-2:]):
            frames = functional.resize(frames, list(size), InterpolationMode.BILINEAR, antialias=True)
        images: Tensor = functional.to_dtype(self._flipped(frames), torch.float32, scale=True)
        return images

    def masks(self, masks: Tensor) -> Tensor:
        """(G, T, H, W) bool -> (G, T, H', W') bool, nearest pixel centre."""
        size = self.size(*masks.shape[-2:])
        if size != tuple(masks.shape[-2:]):
            as_bytes = masks.to(torch.uint8)
            masks = functional.resize(as_bytes, list(size), InterpolationMode.NEAREST_EXACT).bool()
        return self._flipped(masks)

    def _flipped(self, x: Tensor) -> Tensor:
        return x.flip(-1) if self.flip else x
