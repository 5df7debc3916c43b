"""Batches of training clips as a pure function of seed and step, and whole videos for inference."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.dlpack import from_dlpack

from syncvis.config import DataConfig
from syncvis.data.mixing import Order, Source, load_mix
from syncvis.data.sampling import SAMPLERS
from syncvis.data.segmentations import runs_of_ones
from syncvis.data.transforms import ClipTransform
from syncvis.data.ytvis import TrackAnnotation, Video, VideoDataset
from syncvis.errors import WorkbenchError
from syncvis.structures import ClipBatch, ClipTarget, Frames

# Keeps the random streams of clips apart from those of the order of videos (see mixing).
_CLIP = 1


@dataclass(frozen=True)
class Share:
    """What one of several processes takes of every batch, in one or more passes.

    A batch is cut into ``processes * passes`` equal parts of neighbouring clips. The parts of all processes and passes
    together are the batch, so how it is shared changes no clip; each part is padded to its own largest one.
    """

    rank: int = 0
    processes: int = 1
    passes: int = 1

    @property
    def parts(self) -> range:
        """The numbers of this process's parts, one per pass."""
        return range(self.rank, self.processes * self.passes, self.processes)


class TrainClips:
    """The training clips of one data set, or of several that are mixed.

    Args:
        dataset: The videos; every one is seen once per epoch, in an order of its own.
        config: Clip length, sampling, augmentation and mixing.
        batch_size: Clips per batch.
        seed: Decides, with the step, everything that is random.
        size_divisor: Batches are padded to a multiple of this many pixels.
        mixed: The data sets of ``config.mix``, with the labels of ``dataset``; None reads them.
        digests: Whether batches say what identifies the pixels of their frames.

    Raises:
        DataError: A data set of ``config.mix`` cannot be read, or shares no class with ``dataset``.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        config: DataConfig,
        batch_size: int,
        seed: int,
        size_divisor: int = 32,
        mixed: Sequence[VideoDataset] | None = None,
        digests: bool = False,
    ) -> None:
        self.config, self.batch_size, self.seed, self.size_divisor = config, batch_size, seed, size_divisor
        self.digests = digests
        mixed = load_mix(config, dataset.categories) if mixed is None else mixed
        others = [Source(found, mix.ratio, mix.pseudo) for found, mix in zip(mixed, config.mix, strict=True)]
        self.order = Order([Source(dataset, config.ratio, config.pseudo is not None), *others], seed)

    def video(self, position: int) -> Video:
        """The video of a clip by its number in the endless sequence of training."""
        return self.order(position)[1]

    def batch(self, step: int, part: int = 0, parts: int = 1) -> ClipBatch:
        """The batch of a step, or one of ``parts`` parts of it: the same whenever and wherever it is asked for.

        Raises:
            DataError: A frame or a mask cannot be read.
        """
        size = self.batch_size // parts
        clips = [self._clip(step, i) for i in range(part * size, (part + 1) * size)]
        return collate(clips, self.size_divisor, self.digests)

    def iterate(
        self, start: int, stop: int, workers: int = 0, share: Share | None = None, pin: bool = False
    ) -> Iterator[tuple[int, ClipBatch]]:
        """Yield (step, batch) for the steps ``start`` .. ``stop - 1``; ``workers`` processes prepare them.

        With a share, each step comes once per pass, with the clips of that pass. With ``pin`` what other processes
        prepare comes in pinned memory, for a GPU.
        """
        passes = _Passes(self, range(start, stop), share or Share())
        if not workers:
            yield from ((passes.step(index), passes.batch(index)) for index in range(len(passes)))
            return
        loader: DataLoader[ClipBatch | WorkbenchError] = DataLoader(
            passes,
            batch_size=None,
            num_workers=workers,
            collate_fn=_unchanged,
            worker_init_fn=_obey_only_the_parent,
            # Without its own generator the loader would draw from the global one, and training would see it.
            generator=torch.Generator(),
            pin_memory=pin,
        )
        for index, batch in enumerate(loader):
            if isinstance(batch, WorkbenchError):
                raise batch
            yield passes.step(index), batch

    def _clip(self, step: int, index: int) -> tuple[Tensor, ClipTarget]:
        """Images (T, 3, H, W) uint8 and targets of one clip of a batch."""
        config = self.config
        source, video = self.order(step * self.batch_size + index)
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, _CLIP, step, index)))
        frames = SAMPLERS[config.sampling](len(video), config.frames, config.frame_range, rng)
        transform = ClipTransform.draw(config, (video.height, video.width), rng, source.pseudo and len(video) == 1)
        if config.reverse and rng.random() < config.reverse:
            frames = frames[::-1]
        read = tuple(dict.fromkeys(frames))
        pixels = read_frames(source.dataset, video, read)
        return transform.pixels(pixels, [read.index(t) for t in frames]), clip_target(video, frames, transform)


class _Passes(Dataset[ClipBatch | WorkbenchError]):
    """Batches by number of pass; a fault is returned, since a loader's process would wrap it in its own traceback."""

    def __init__(self, clips: TrainClips, steps: range, share: Share) -> None:
        self.clips, self.steps, self.share = clips, steps, share

    def __len__(self) -> int:
        return len(self.steps) * self.share.passes

    def step(self, index: int) -> int:
        return self.steps[index // self.share.passes]

    def batch(self, index: int) -> ClipBatch:
        share = self.share
        part = share.parts[index % share.passes]
        return self.clips.batch(self.step(index), part, share.processes * share.passes)

    def __getitem__(self, index: int) -> ClipBatch | WorkbenchError:
        try:
            return self.batch(index)
        except WorkbenchError as error:
            return error


def _obey_only_the_parent(_: int) -> None:
    """In a process of the loader: leave stop signals to the trainer, which still needs batches up to its checkpoint.

    Batch systems and terminals signal every process of a job. SIGTERM ends this one if the trainer sent it.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _unchanged(batch: Any) -> Any:
    return batch


def read_frames(dataset: VideoDataset, video: Video, frames: Frames) -> Iterator[Tensor]:
    """T frames (3, H, W) uint8 at the original size, read one by one; not to be written to: a reader may keep them."""
    # Unlike from_numpy, from_dlpack takes arrays that are read-only.
    return (from_dlpack(dataset.read_frame(video, t)).permute(2, 0, 1) for t in frames)


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


def clip_target(video: Video, frames: Frames, transform: ClipTransform) -> ClipTarget:
    """The instances that the transformed frames show; crowds are left out.

    As ``transform.masks`` of :func:`read_targets`, but no mask is ever decoded at the size of the video.
    """
    tracks = [track for track in video.tracks if not track.iscrowd and any(map(track.has_mask, frames))]
    shown = [(g, t) for g, track in enumerate(tracks) for t in dict.fromkeys(frames) if track.has_mask(t)]
    places = [(tracks[g].segmentations[t], tracks[g].place(t)) for g, t in shown]
    size, grids = (video.height, video.width), transform.grids(len(frames), video.height, video.width)
    masks = np.zeros((len(tracks), len(frames), *transform.size(*size)), bool)
    for (g, t), runs in zip(shown, runs_of_ones(places, *size), strict=True):
        for place, frame in enumerate(frames):
            if frame == t:
                grids[place].paint(*runs, size, masks[g, place])
    turned = transform.turned(torch.from_numpy(masks))
    kept = torch.tensor([bool(mask.any()) for mask in turned.numpy()], dtype=torch.bool)  # stops at the first pixel
    labels, ids = (
        torch.tensor([getattr(track, name) for track in tracks], dtype=torch.int64) for name in ("label", "id")
    )
    return ClipTarget(labels[kept], ids[kept], turned if kept.all() else turned[kept])


def collate(clips: Sequence[tuple[Tensor, ClipTarget]], size_divisor: int, digests: bool = False) -> ClipBatch:
    """Join clips, images (T, 3, H, W) and targets, of one T and any size.

    Images are uint8, or float32 in [0, 1].
    """
    images, valid = pad_images([images for images, _ in clips], size_divisor)
    height, width = valid.shape[-2:]
    targets = tuple(ClipTarget(t.labels, t.ids, _pad(t.masks, height, width)) for _, t in clips)
    return ClipBatch(images, valid, targets, tuple(frame_digests(x) for x, _ in clips) if digests else ())


def frame_digests(images: Tensor) -> tuple[bytes, ...]:
    """SHA-256 of each frame of a clip (T, 3, H, W) with its type and size."""
    head = f"{images.dtype} {tuple(images.shape[1:])} ".encode()
    return tuple(hashlib.sha256(head + frame.tobytes()).digest() for frame in images.numpy())


def pad_images(clips: Sequence[Tensor], size_divisor: int) -> tuple[Tensor, Tensor]:
    """Pad B clips (T, 3, H, W), uint8 or float32, at the right and bottom to one size, a multiple of ``size_divisor``.

    Returns:
        Images (B, T, 3, H', W') float32, where uint8 becomes [0, 1], and valid (B, T, H', W') bool.
    """
    largest = (max(clip.shape[-2] for clip in clips), max(clip.shape[-1] for clip in clips))
    shape = (len(clips), len(clips[0]))
    size = padded_size(largest, size_divisor)
    images = torch.zeros(*shape, 3, *size, device=clips[0].device)
    valid = torch.zeros(*shape, *size, dtype=torch.bool, device=clips[0].device)
    for b, clip in enumerate(clips):
        height, width = clip.shape[-2:]
        inside = images[b, :, :, :height, :width].copy_(clip)
        if clip.dtype == torch.uint8:
            inside.mul_(1 / 255)
        valid[b, :, :height, :width] = True
    return images, valid


def padded_size(size: tuple[int, int], size_divisor: int) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``size_divisor``."""
    height, width = (math.ceil(side / size_divisor) * size_divisor for side in size)
    return height, width


def _pad(x: Tensor, height: int, width: int) -> Tensor:
    padded = x.new_zeros(*x.shape[:-2], height, width)
    padded[..., : x.shape[-2], : x.shape[-1]] = x
    return padded


def video_chunks(
    dataset: VideoDataset,
    video: Video,
    short_side: int,
    max_size: int,
    chunk: int,
    size_divisor: int = 32,
    digests: bool = False,
) -> tuple[Iterator[ClipBatch], tuple[int, int]]:
    """All frames of one video for inference, a few at a time.

    Args:
        digests: as of :class:`TrainClips`.

    Returns:
        Batches (B = 1, no targets) of up to ``chunk`` frames, read when they are asked for, and the (height, width) of
        their images without the padding. Reading raises DataError for a frame that cannot be read.
    """
    transform = ClipTransform(short_side, max_size)

    def batches() -> Iterator[ClipBatch]:
        for start in range(0, len(video), chunk):
            frames = tuple(range(start, min(start + chunk, len(video))))
            images = transform.images(read_frames(dataset, video, frames))
            names = (frame_digests(images),) if digests else ()
            yield ClipBatch(*pad_images([images], size_divisor), digests=names)

    return batches(), transform.size(video.height, video.width)
