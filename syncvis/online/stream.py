"""A video at test time comes in chunks of frames; how many a chunk has must change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from syncvis.models.stored import StoredFrames
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
        tracks: what was kept of all frames, in parts -> the tracks of the video.
        keep: the features of the next frames -> what must be kept of them. The mask features should be in the host's
            memory then, and nothing that can be made again later should be there at all.
    """

    def __init__(
        self, tracks: Callable[[Sequence[Any]], VideoTracks], keep: Callable[[ClipFeatures], Any] = StoredFrames.of
    ) -> None:
        self._tracks, self._keep = tracks, keep
        self._parts: list[Any] = []

    def step(self, features: ClipFeatures) -> None:
        self._parts.append(self._keep(features))

    def finish(self) -> VideoTracks:
        return self._tracks(self._parts)
