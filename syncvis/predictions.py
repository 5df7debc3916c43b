"""Predicted tracks as they are written, read and evaluated: what ``structures`` has for those who do not load torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


class RLE(TypedDict):
    """A COCO run-length mask: size [height, width] and the compressed counts as text."""

    size: list[int]
    counts: str


@dataclass(frozen=True)
class Track:
    """One predicted instance of a video.

    Attributes:
        label: class index 0 .. K-1 (not the data set's category id).
        score: confidence in [0, 1].
        masks: one RLE per frame of the video at the original size, None where the mask is empty; what is read from a
            file is a checked :class:`syncvis.evaluation.tubes.Tube`, which reads like a tuple of them.
    """

    label: int
    score: float
    masks: Sequence[RLE | None]


@dataclass(frozen=True)
class VideoPrediction:
    """All tracks of one video, best first."""

    video_id: int
    tracks: tuple[Track, ...]
