"""A video at test time comes in chunks of frames; how many a chunk has must change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from syncvis.outputs import ClipFeatures, VideoTracks


class Stream(Protocol):
    """What a method remembers of one video."""

    def step(self, features: ClipFeatures) -> None:
        """Take the features of the next frames, of a batch of one."""
        ...

    def finish(self) -> VideoTracks:
        """The tracks of the video after its last frame."""
        ...


class WholeVideo:
    """The stream of an offline method: it waits for the last frame and then decodes all frames at once.

    Args:
        tracks: features of a video -> its tracks. The mask features are in the host's memory by then.
    """

    def __init__(self, tracks: Callable[[ClipFeatures], VideoTracks]) -> None:
        self._tracks = tracks
        self._parts: list[ClipFeatures] = []

    def step(self, features: ClipFeatures) -> None:
        self._parts.append(features.offloaded())

    def finish(self) -> VideoTracks:
        return self._tracks(ClipFeatures.concat(self._parts))
