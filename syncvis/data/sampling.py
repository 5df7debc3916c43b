"""Which frames of a video make a training clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from syncvis.structures import Frames

Sampler = Callable[[int, int, int, np.random.Generator], Frames]


def sample_frames(length: int, num_frames: int, frame_range: int, rng: np.random.Generator) -> Frames:
    """Draw a clip around a reference frame that is uniform over the video.

    The other frames lie within ``frame_range`` of it. They differ from it and from each other as long as
    there are enough; then frames repeat, and a video of one frame gives ``num_frames`` times that frame.

    Args:
        length: frames of the video, at least 1.
        num_frames: frames of the clip, at least 1.
        frame_range: largest distance from the reference frame.

    Returns:
        ``num_frames`` frame numbers in ascending order.
    """
    reference, near = _reference(length, frame_range, rng)
    wanted = num_frames - 1
    distinct = rng.permutation(near)[:wanted]
    repeated = rng.choice(near, wanted - len(distinct))
    return tuple(sorted([reference, *distinct.tolist(), *repeated.tolist()]))


def sample_with_replacement(length: int, num_frames: int, frame_range: int, rng: np.random.Generator) -> Frames:
    """As :func:`sample_frames`, but the other frames are drawn with replacement: they may repeat each other, not the
    reference (Mask2Former-VIS, VITA, GenVIS, SyncVIS: data/dataset_mapper.py). One frame gives that frame T times.
    """
    return tuple(sorted(sample_key_first(length, num_frames, frame_range, rng)))


def sample_key_first(length: int, num_frames: int, frame_range: int, rng: np.random.Generator) -> Frames:
    """As :func:`sample_with_replacement`, in the order of drawing: the reference frame comes first (IDOL's pairs)."""
    reference, near = _reference(length, frame_range, rng)
    return (reference, *rng.choice(near, num_frames - 1).tolist())


def sample_consecutive(length: int, num_frames: int, frame_range: int, rng: np.random.Generator) -> Frames:
    """Frames that follow each other, from a start that is uniform over all that fit; a video that is too short is
    shown whole and then repeats its last frame (DVIS, whose code never draws the last start). No range is needed.
    """
    start = int(rng.integers(max(1, length - num_frames + 1)))
    return tuple(min(start + t, length - 1) for t in range(num_frames))


def _reference(length: int, frame_range: int, rng: np.random.Generator) -> tuple[int, NDArray[np.int_]]:
    """A frame and those within reach, without itself unless it is alone."""
    reference = int(rng.integers(length))
    near = np.arange(max(0, reference - frame_range), min(length, reference + frame_range + 1))
    return reference, near[near != reference] if len(near) > 1 else near


SAMPLERS: dict[str, Sampler] = {
    "distinct": sample_frames,
    "replacement": sample_with_replacement,
    "key_first": sample_key_first,
    "consecutive": sample_consecutive,
}
"""By ``data.sampling``."""
