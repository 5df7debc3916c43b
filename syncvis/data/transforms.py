"""Cropping, resizing and flipping a whole clip, images and masks together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from syncvis.config import CropConfig, DataConfig

Size = tuple[int, int]

CROP_MAX_SIZE = 1333
"""Upper bound of the longer side in the resize before a crop (VITA and SyncVIS, data/augmentation.py)."""


def resized(size: Size, short_side: int, max_size: int) -> Size:
    """The (height, width) of a frame whose shorter side becomes ``short_side``, unless the longer exceeds ``max_size``.

    In each step what detectron2's ``ResizeShortestEdge`` computes, so that sizes agree to the pixel.
    """
    short, long = float(short_side), short_side / min(size) * max(size)
    longest = max(short, long)
    if longest > max_size:
        shrink = max_size / longest
        short, long = short * shrink, long * shrink
    sides = (short, long) if size[0] < size[1] else (long, short)
    return max(1, int(sides[0] + 0.5)), max(1, int(sides[1] + 0.5))


@dataclass(frozen=True)
class SlidingCrop:
    """A window that slides over the frames of a clip, cut after a resize (VITA, SyncVIS).

    Attributes:
        resize: (height, width) of the frames before the cut.
        window: (height, width) of the window.
        corners: (top, left) of the window, one per frame, on a straight line.
    """

    resize: Size
    window: Size
    corners: tuple[Size, ...]

    @classmethod
    def draw(cls, config: CropConfig, size: Size, num_frames: int, rng: np.random.Generator) -> SlidingCrop:
        """Draw the crop of a clip of T frames of ``size`` (height, width).

        The window lies between two corners, the second not above or left of the first, at T sorted random places of
        the way between them, in one direction or the other (SyncVIS, data/augmentation.py, RandomCropClip).
        """
        resize = resized(size, int(rng.choice(config.short_side)), CROP_MAX_SIZE)
        least, most = config.size
        height, width = (int(rng.integers(min(side, least), min(side, most) + 1)) for side in resize)
        room = np.array([resize[0] - height, resize[1] - width])
        last = rng.integers(0, room + 1)
        first = rng.integers(last, room + 1)
        way = np.sort(rng.random(num_frames))[:, None]
        corners = np.rint(last * way + first * (1 - way)).astype(int)
        if rng.random() < 0.5:
            corners = corners[::-1]
        return cls(resize, (height, width), tuple((top, left) for top, left in corners.tolist()))

    def cut(self, frames: Tensor) -> Tensor:
        """(..., T, C, H, W) of size ``resize`` -> (..., T, C, h, w) of size ``window``."""
        height, width = self.window
        parts = [
            frames[..., t, :, top : top + height, left : left + width] for t, (top, left) in enumerate(self.corners)
        ]
        return torch.stack(parts, -4)


@dataclass(frozen=True)
class ClipTransform:
    """What is done to every frame of one clip: crop, resize, flip.

    Attributes:
        short_side: length of the shorter side in pixels.
        max_size: upper bound of the longer side; it wins over ``short_side``.
        flip: mirror left and right.
        crop: comes first; None leaves it out.
    """

    short_side: int
    max_size: int
    flip: bool = False
    crop: SlidingCrop | None = None

    @classmethod
    def draw(cls, config: DataConfig, size: Size, rng: np.random.Generator) -> ClipTransform:
        """Draw the augmentation of one training clip of ``config.frames`` frames of ``size`` (height, width)."""
        short_side = config.short_side[int(rng.integers(len(config.short_side)))]
        flip = bool(rng.random() < config.flip)
        crop = None
        if config.crop is not None and rng.random() < config.crop.probability:
            crop = SlidingCrop.draw(config.crop, size, config.frames, rng)
        return cls(short_side, config.max_size, flip, crop)

    def size(self, height: int, width: int) -> Size:
        """The size that a frame of ``height`` x ``width`` gets."""
        return resized(self.crop.window if self.crop else (height, width), self.short_side, self.max_size)

    def images(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) uint8 -> (T, 3, H', W') float32 in [0, 1], bilinear with antialiasing."""
        moved = self._moved(frames, InterpolationMode.BILINEAR)
        images: Tensor = functional.to_dtype(moved, torch.float32, scale=True)
        return images

    def masks(self, masks: Tensor) -> Tensor:
        """(G, T, H, W) bool -> (G, T, H', W') bool, nearest pixel centre."""
        as_bytes = masks.to(torch.uint8)[:, :, None]
        return self._moved(as_bytes, InterpolationMode.NEAREST_EXACT)[:, :, 0].bool()

    def _moved(self, frames: Tensor, mode: InterpolationMode) -> Tensor:
        """(..., T, C, H, W) uint8, cropped, resized and flipped."""
        size = self.size(frames.shape[-2], frames.shape[-1])
        if self.crop is not None:
            frames = self.crop.cut(_resize(frames, self.crop.resize, mode))
        frames = _resize(frames, size, mode)
        return frames.flip(-1) if self.flip else frames


def _resize(frames: Tensor, size: Size, mode: InterpolationMode) -> Tensor:
    if size == tuple(frames.shape[-2:]):
        return frames
    resized_frames: Tensor = functional.resize(frames, list(size), mode, antialias=True)
    return resized_frames
