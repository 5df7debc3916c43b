"""Colours of a clip, and the motion that makes a clip of a still image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from syncvis.config import PhotometricConfig, PseudoConfig

Factors = tuple[float, ...]
Adjust = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Photometric:
    """Factors of the colours, one per frame; an empty tuple leaves the frames as they are.

    Drawn as detectron2's RandomBrightness, RandomContrast and RandomSaturation, which Mask2Former-VIS and VITA apply
    to every frame on its own. Contrast turns around the mean of the grey image, theirs around that of all channels.
    """

    brightness: Factors = ()
    contrast: Factors = ()
    saturation: Factors = ()

    @classmethod
    def draw(cls, config: PhotometricConfig, num_frames: int, rng: np.random.Generator) -> Photometric:
        """Draw the factors of a clip of ``num_frames`` frames."""

        def factors(bounds: tuple[float, float] | None) -> Factors:
            if bounds is None:
                return ()
            if config.per == "clip":
                return (float(rng.uniform(*bounds)),) * num_frames
            return tuple(rng.uniform(*bounds, num_frames).tolist())

        return cls(factors(config.brightness), factors(config.contrast), factors(config.saturation))

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) uint8, with other colours."""
        frames = _adjusted(frames, functional.adjust_brightness, self.brightness)
        frames = _adjusted(frames, functional.adjust_contrast, self.contrast)
        return _adjusted(frames, functional.adjust_saturation, self.saturation)


def _adjusted(frames: Tensor, adjust: Adjust, factors: Factors) -> Tensor:
    if not factors:
        return frames
    return torch.stack([adjust(frame, factor) for frame, factor in zip(frames, factors, strict=True)])


@dataclass(frozen=True)
class Rotation:
    """Angles in degrees, counter-clockwise, one per frame, around one centre, given as fractions (x, y) of a frame.

    What turns out of the frame is lost; what turns in is black and belongs to no instance.
    """

    angles: tuple[float, ...]
    center: tuple[float, float]

    @classmethod
    def draw(cls, config: PseudoConfig, num_frames: int, rng: np.random.Generator) -> Rotation:
        """Draw sorted angles, in one direction or the other (SyncVIS, data/augmentation.py, RandomRotationClip)."""
        angles = np.sort(rng.uniform(-config.rotation, config.rotation, num_frames))
        x, y = rng.uniform(*config.center, 2).tolist()
        if rng.random() < 0.5:
            angles = angles[::-1]
        return cls(tuple(angles.tolist()), (x, y))

    def images(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) uint8, each frame turned by its angle."""
        return self._turned(frames, InterpolationMode.BILINEAR)

    def masks(self, masks: Tensor) -> Tensor:
        """(G, T, H, W) bool, each frame turned by its angle."""
        return self._turned(masks.transpose(0, 1).to(torch.uint8), InterpolationMode.NEAREST).transpose(0, 1).bool()

    def _turned(self, frames: Tensor, mode: InterpolationMode) -> Tensor:
        """(T, C, H, W), with any number of channels."""
        if not frames.numel():
            return frames
        height, width = frames.shape[-2:]
        center = [width * self.center[0], height * self.center[1]]
        pairs = zip(frames, self.angles, strict=True)
        return torch.stack([functional.rotate(frame, angle, mode, center=center) for frame, angle in pairs])
