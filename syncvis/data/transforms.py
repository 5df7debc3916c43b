"""Cropping, resizing, flipping and turning a whole clip, images and masks together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from syncvis.config import CropConfig, DataConfig
from syncvis.data.augment import Photometric, Rotation
from syncvis.ops.run_lengths import Runs

Size = tuple[int, int]
Indices = NDArray[np.int_]
Mask = NDArray[np.bool_]

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
        corners: (top, left) of the window, one per frame; on a straight line, or each at a place of its own.
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
        if config.motion == "independent":
            places = rng.integers(0, room + 1, (num_frames, 2))
            return cls(resize, (height, width), tuple((top, left) for top, left in places.tolist()))
        last = rng.integers(0, room + 1)
        first = rng.integers(last, room + 1)
        way = np.sort(rng.random(num_frames))[:, None]
        corners = np.rint(last * way + first * (1 - way)).astype(int)
        if rng.random() < 0.5:
            corners = corners[::-1]
        return cls(resize, (height, width), tuple((top, left) for top, left in corners.tolist()))

    def cut(self, frames: Sequence[Tensor]) -> Tensor:
        """T frames (C, H, W) of size ``resize`` -> (T, C, h, w) of size ``window``."""
        height, width = self.window
        pairs = zip(frames, self.corners, strict=True)
        # As images lie in memory when they were just read: a resize is faster.
        parts = [f.permute(1, 2, 0)[top : top + height, left : left + width] for f, (top, left) in pairs]
        return torch.stack(parts).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Grid:
    """The rows and columns of a frame that a mask keeps: nearest pixel centres, composed over all steps."""

    rows: Indices
    columns: Indices

    @classmethod
    def resize(cls, old: Size, new: Size) -> Grid:
        return cls(*(_nearest(a, b) for a, b in zip(old, new, strict=True)))

    def then(self, after: Grid) -> Grid:
        """This grid, and ``after`` on what it gives."""
        return Grid(self.rows[after.rows], self.columns[after.columns])

    def window(self, corner: Size, size: Size) -> Grid:
        (top, left), (height, width) = corner, size
        return Grid(self.rows[top : top + height], self.columns[left : left + width])

    def __call__(self, mask: Mask) -> Mask:
        """(H, W) -> (H', W')."""
        picked: Mask = mask[self.rows][:, self.columns]
        return picked

    def paint(self, starts: Runs, stops: Runs, size: Size, out: Mask) -> None:
        """The same for the (H, W) mask with these runs of ones down its columns, into ``out``, which is False so far.

        The runs are made shorter before they become pixels, and only columns with a pixel do.
        """
        if not len(starts):
            return
        kept = len(self.rows)
        column, row = np.divmod(np.stack([starts, stops], axis=1).ravel(), size[0])
        places = column * kept + np.searchsorted(self.rows, row)
        left, right = column[0], column[-1] + 1
        lengths = np.diff(places, prepend=left * kept, append=right * kept)
        pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(-1, kept)
        x = np.flatnonzero((left <= self.columns) & (self.columns < right))
        if len(x):
            out[:, x[0] : x[-1] + 1] = pixels[self.columns[x] - left].T


def _nearest(old: int, new: int) -> Indices:
    """For each of ``new`` pixels the one of ``old`` that torch's nearest-exact resize takes."""
    places = torch.arange(old, dtype=torch.float32)[None, None]
    indices: Indices = F.interpolate(places, new, mode="nearest-exact")[0, 0].numpy().astype(int)
    return indices


@dataclass(frozen=True)
class ClipTransform:
    """What is done to every frame of one clip, in this order.

    Attributes:
        short_side: length of the shorter side in pixels.
        max_size: upper bound of the longer side; it wins over ``short_side``.
        flip: mirror left and right.
        crop: comes before the resize; None leaves it out.
        photometric: other colours, after the flip.
        rotation: turns the frames, last.
    """

    short_side: int
    max_size: int
    flip: bool = False
    crop: SlidingCrop | None = None
    photometric: Photometric | None = None
    rotation: Rotation | None = None

    @classmethod
    def draw(cls, config: DataConfig, size: Size, rng: np.random.Generator, pseudo: bool = False) -> ClipTransform:
        """Draw the augmentation of one training clip of ``config.frames`` frames of ``size`` (height, width).

        Args:
            pseudo: the clip is one still image, and moves as ``config.pseudo`` says.
        """
        short_side = config.short_side[int(rng.integers(len(config.short_side)))]
        flip = bool(rng.random() < config.flip)
        crop, photometric, rotation = None, None, None
        if config.crop is not None and rng.random() < config.crop.probability:
            crop = SlidingCrop.draw(config.crop, size, config.frames, rng)
        if config.photometric is not None:
            photometric = Photometric.draw(config.photometric, config.frames, rng)
        if config.pseudo is not None and pseudo:
            rotation = Rotation.draw(config.pseudo, config.frames, rng)
        return cls(short_side, config.max_size, flip, crop, photometric, rotation)

    def size(self, height: int, width: int) -> Size:
        """The size that a frame of ``height`` x ``width`` gets."""
        return resized(self.crop.window if self.crop else (height, width), self.short_side, self.max_size)

    def images(self, frames: Iterable[Tensor]) -> Tensor:
        """T frames (3, H, W) uint8 -> (T, 3, H', W') float32 in [0, 1], bilinear with antialiasing."""
        images: Tensor = functional.to_dtype(self.pixels(frames), torch.float32, scale=True)
        return images

    def pixels(self, frames: Iterable[Tensor], picks: Sequence[int] | None = None) -> Tensor:
        """U frames (3, H, W) uint8, each dropped as soon as it is resized -> (T, 3, H', W') uint8.

        Args:
            picks: for each frame of the clip its place among the U that were read; None: all, in order.
        """
        resize = self.crop.resize if self.crop else None
        moved = [_resize(frame, resize or self.size(*frame.shape[-2:])) for frame in frames]
        moved = moved if picks is None else [moved[u] for u in picks]
        if self.crop is None:
            return self._coloured(torch.stack(moved))
        return self._coloured(_resize(self.crop.cut(moved), self.size(*self.crop.window)))

    def _coloured(self, frames: Tensor) -> Tensor:
        frames = frames.flip(-1) if self.flip else frames
        frames = self.photometric(frames) if self.photometric else frames
        return self.rotation.images(frames) if self.rotation else frames

    def masks(self, masks: Tensor) -> Tensor:
        """(G, T, H, W) bool -> (G, T, H', W') bool, nearest pixel centre."""
        grids = self.grids(*masks.shape[1:])
        moved = np.zeros((*masks.shape[:2], *self.size(*masks.shape[2:])), bool)
        for g, track in enumerate(masks.numpy()):
            moved[g] = [grid(mask) for grid, mask in zip(grids, track, strict=True)]
        return self.turned(torch.from_numpy(moved))

    def grids(self, num_frames: int, height: int, width: int) -> list[Grid]:
        """For each frame the pixels that its masks keep, before they are :meth:`turned`."""
        size = self.size(height, width)
        if self.crop is None:
            return [self._flipped(Grid.resize((height, width), size))] * num_frames
        before, window = Grid.resize((height, width), self.crop.resize), self.crop.window
        after = self._flipped(Grid.resize(window, size))
        return [before.window(corner, window).then(after) for corner in self.crop.corners]

    def turned(self, masks: Tensor) -> Tensor:
        """(G, T, H', W') bool after the rotation."""
        return self.rotation.masks(masks) if self.rotation else masks

    def _flipped(self, grid: Grid) -> Grid:
        return Grid(grid.rows, grid.columns[::-1]) if self.flip else grid


def _resize(frames: Tensor, size: Size) -> Tensor:
    """(..., H, W) uint8, bilinear with antialiasing."""
    if size == tuple(frames.shape[-2:]):
        return frames
    moved: Tensor = functional.resize(frames, list(size), InterpolationMode.BILINEAR, antialias=True)
    return moved
