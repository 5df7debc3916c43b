"""Batches of training clips as a pure function of seed and step, and whole videos for inference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from syncvis.config import DataConfig
from syncvis.data.sampling import sample_frames
from syncvis.data.transforms import ClipTransform
from syncvis.data.ytvis import TrackAnnotation, Video, VideoDataset
from syncvis.errors import WorkbenchError
from syncvis.structures import ClipBatch, ClipTarget, Frames

# Keys that keep the random streams of epochs and clips apart.
_EPOCH, _CLIP = 0, 1


class TrainClips:
    """The training clips of a data set.

    Args:
        dataset: The videos; every one is seen once per epoch, in an order of its own.
        config: Clip length, frame range and augmentation.
        batch_size: Clips per batch.
        seed: Decides, with the step, everything that is random.
        size_divisor: Batches are padded to a multiple of this many pixels.
    """

    def __init__(
        self, dataset: VideoDataset, config: DataConfig, batch_size: int, seed: int, size_divisor: int = 32
    ) -> None:
        self.dataset, self.config, self.batch_size = dataset, config, batch_size
        self.seed, self.size_divisor = seed, size_divisor

    def video(self, position: int) -> Video:
        """The video at a position of the endless sequence of shuffled epochs."""
        epoch, place = divmod(position, len(self.dataset.videos))
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, _EPOCH, epoch)))
        return self.dataset.videos[int(rng.permutation(len(self.dataset.videos))[place])]

    def batch(self, step: int) -> ClipBatch:
        """The batch of a step: the same one whenever, and in whichever process, it is asked for.

        Raises:
            DataError: A frame or a mask cannot be read.
        """
        return collate([self._clip(step, i) for i in range(self.batch_size)], self.size_divisor)

    def iterate(self, start: int, stop: int, workers: int = 0) -> Iterator[tuple[int, ClipBatch]]:
        """Yield (step, batch) for the steps ``start`` .. ``stop - 1``; ``workers`` processes prepare them."""
        if not workers:
            yield from ((step, self.batch(step)) for step in range(start, stop))
            return
        loader: DataLoader[ClipBatch | WorkbenchError] = DataLoader(
            _Steps(self, range(start, stop)),
            batch_size=None,
            num_workers=workers,
            collate_fn=_unchanged,
            # Without its own generator the loader would draw from the global one, and training would see it.
            generator=torch.Generator(),
        )
        for step, batch in zip(range(start, stop), loader, strict=True):
            if isinstance(batch, WorkbenchError):
                raise batch
            yield step, batch

    def _clip(self, step: int, index: int) -> tuple[Tensor, ClipTarget]:
        video = self.video(step * self.batch_size + index)
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, _CLIP, step, index)))
        frames = sample_frames(len(video), self.config.frames, self.config.frame_range, rng)
        transform = ClipTransform.draw(self.config, (video.height, video.width), rng)
        images = transform.images(read_frames(self.dataset, video, frames))
        return images, _visible(read_targets(video, frames), transform)


class _Steps(Dataset[ClipBatch | WorkbenchError]):
    """Batches by step; a fault is returned, since a loader's process would wrap it in its own traceback."""

    def __init__(self, clips: TrainClips, steps: range) -> None:
        self.clips, self.steps = clips, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> ClipBatch | WorkbenchError:
        try:
            return self.clips.batch(self.steps[index])
        except WorkbenchError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def read_frames(dataset: VideoDataset, video: Video, frames: Frames) -> Tensor:
    """(T, 3, H, W) uint8 at the original size."""
    pixels = np.stack([dataset.read_frame(video, t) for t in frames])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def read_targets(video: Video, frames: Frames) -> ClipTarget:
    """The instances of a video in some frames, at the original size; crowds are left out."""
    tracks = [track for track in video.tracks if not track.iscrowd]
    masks = np.zeros((len(tracks), len(frames), video.height, video.width), bool)
    for g, track in enumerate(tracks):
        masks[g] = _track_masks(track, frames)
    labels = torch.tensor([track.label for track in tracks], dtype=torch.int64)
    ids = torch.tensor([track.id for track in tracks], dtype=torch.int64)
    return ClipTarget(labels, ids, torch.from_numpy(masks))


def _track_masks(track: TrackAnnotation, frames: Frames) -> NDArray[np.bool_]:
    return np.stack([track.mask(t) for t in frames])


def _visible(target: ClipTarget, transform: ClipTransform) -> ClipTarget:
    """The transformed target, without the instances that no frame of the clip shows."""
    masks = transform.masks(target.masks)
    kept = masks.flatten(1).any(1)
    return ClipTarget(target.labels[kept], target.ids[kept], masks[kept])


def collate(clips: Sequence[tuple[Tensor, ClipTarget]], size_divisor: int) -> ClipBatch:
    """Join clips, images (T, 3, H, W) float32 and targets, of one T and any size."""
    images, valid = pad_images([images for images, _ in clips], size_divisor)
    height, width = valid.shape[-2:]
    targets = tuple(ClipTarget(t.labels, t.ids, _pad(t.masks, height, width)) for _, t in clips)
    return ClipBatch(images, valid, targets)


def pad_images(clips: Sequence[Tensor], size_divisor: int) -> tuple[Tensor, Tensor]:
    """Pad B clips (T, 3, H, W) at the right and bottom to one size, a multiple of ``size_divisor``.

    Returns:
        Images (B, T, 3, H', W') and valid (B, T, H', W') bool.
    """
    largest = (max(clip.shape[-2] for clip in clips), max(clip.shape[-1] for clip in clips))
    height, width = padded_size(largest, size_divisor)
    inside = [torch.ones_like(clip[:, 0], dtype=torch.bool) for clip in clips]
    return (
        torch.stack([_pad(clip, height, width) for clip in clips]),
        torch.stack([_pad(mask, height, width) for mask in inside]),
    )


def padded_size(size: tuple[int, int], size_divisor: int) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``size_divisor``."""
    height, width = (math.ceil(side / size_divisor) * size_divisor for side in size)
    return height, width


def _pad(x: Tensor, height: int, width: int) -> Tensor:
    padded = x.new_zeros(*x.shape[:-2], height, width)
    padded[..., : x.shape[-2], : x.shape[-1]] = x
    return padded


def video_chunks(
    dataset: VideoDataset, video: Video, short_side: int, max_size: int, chunk: int, size_divisor: int = 32
) -> tuple[Iterator[ClipBatch], tuple[int, int]]:
    """All frames of one video for inference, a few at a time.

    Returns:
        Batches (B = 1, no targets) of up to ``chunk`` frames, read when they are asked for, and the (height, width) of
        their images without the padding. Reading raises DataError for a frame that cannot be read.
    """
    transform = ClipTransform(short_side, max_size)

    def batches() -> Iterator[ClipBatch]:
        for start in range(0, len(video), chunk):
            frames = tuple(range(start, min(start + chunk, len(video))))
            yield ClipBatch(*pad_images([transform.images(read_frames(dataset, video, frames))], size_divisor))

    return batches(), transform.size(video.height, video.width)
