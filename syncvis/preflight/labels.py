"""Whether a split has anything to learn from, or to find: instances that are no crowds, with a pixel."""

from __future__ import annotations

from collections import Counter
from typing import Any

from syncvis.data.annotations import TrackAnnotation, Video
from syncvis.data.segmentations import runs_of_ones
from syncvis.errors import DataError

USABLE, CROWD, UNSEEN, BLANK = "of use", "crowds", "without a mask", "with empty masks only"

MASKS_AT_ONCE = 1000


class Labels:
    """Counts the annotations of videos by what they are of use for, and reads every RLE on the way.

    (Other masks, and whatever else stands in a file, are checked when it is loaded.)
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._damaged: list[DataError] = []

    @property
    def usable(self) -> bool:
        """Whether there is an instance of use."""
        return self.counts[USABLE] > 0

    def add(self, video: Video) -> None:
        """Count the annotations of a video."""
        self.counts.update(map(_kind, video.tracks))
        rles = [
            (segmentation, track.place(t))
            for track in video.tracks
            for t, segmentation in enumerate(track.segmentations)
            if isinstance(segmentation, dict)
        ]
        for start in range(0, len(rles), MASKS_AT_ONCE):
            self._read(rles[start : start + MASKS_AT_ONCE], video.height, video.width)

    def errors(self) -> list[DataError]:
        """One for all masks that cannot be read."""
        if len(self._damaged) < 2:
            return self._damaged
        first, more = self._damaged[0], len(self._damaged) - 1
        problem = f"{first.problem} (and {more:,} more masks are damaged; `syncvis data check` lists every one)"
        return [DataError(problem, file=first.file, key=first.key, fix=first.fix)]

    def _read(self, rles: list[tuple[Any, str]], height: int, width: int) -> None:
        try:
            runs_of_ones(rles, height, width)
        except DataError as error:
            if len(rles) == 1:
                self._damaged.append(error)
                return
            for one in rles:
                self._read([one], height, width)

    def __str__(self) -> str:
        parts = [
            f"{number:,} {kind.removesuffix('s') if number == 1 else kind}" for kind, number in self.counts.items()
        ]
        return f"{counted(self.counts.total(), 'annotation')}{': ' if parts else ''}{', '.join(parts)}"


def counted(number: int, noun: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _kind(track: TrackAnnotation) -> str:
    if track.iscrowd:
        return CROWD
    return USABLE if track.is_seen else BLANK if track.blank else UNSEEN
