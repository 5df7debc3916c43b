"""Which frames of a video make a training clip."""

from __future__ import annotations

import numpy as np

from syncvis.structures import Frames


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
    reference = int(rng.integers(length))
    near = np.arange(max(0, reference - frame_range), min(length, reference + frame_range + 1))
    near = near[near != reference] if len(near) > 1 else near
    wanted = num_frames - 1
    distinct = rng.permutation(near)[:wanted]
    repeated = rng.choice(near, wanted - len(distinct))
    return tuple(sorted([reference, *distinct.tolist(), *repeated.tolist()]))
