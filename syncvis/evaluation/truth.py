"""Annotated videos in the form that the evaluation takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from syncvis.errors import DataError
from syncvis.evaluation.tubes import Tube
from syncvis.ops import masks
from syncvis.predictions import RLE


@dataclass(frozen=True)
class GroundTruthTrack:
    """An annotated instance.

    Attributes:
        label: class index 0 .. K-1.
        segmentations: one RLE per frame, None where it is not seen.
        iscrowd: a crowd or a region to ignore: what overlaps it most is neither right nor wrong.
        areas: pixels per frame as the file gives them, None where not seen; None: those of the masks. They decide the
            size bin, as in the official evaluator.
        id: the annotation's; the official evaluator never counts one with id 0 as found.
    """

    label: int
    segmentations: Sequence[RLE | None]
    iscrowd: bool = False
    areas: Sequence[float | None] | None = None
    id: int = 1


@dataclass(frozen=True)
class GroundTruthVideo:
    """The annotated instances of a video of ``length`` frames, ``height`` x ``width`` pixels."""

    id: int
    height: int
    width: int
    length: int
    tracks: Sequence[GroundTruthTrack]


class AnnotatedTrack(Protocol):
    """An instance as the data set's reader gives it; ``segmentations`` has RLEs, polygons or None."""

    @property
    def label(self) -> int: ...
    @property
    def iscrowd(self) -> bool: ...
    @property
    def segmentations(self) -> Sequence[Any]: ...
    @property
    def mean_area(self) -> float | None: ...
    def mask(self, t: int, /) -> NDArray[np.bool_]: ...


class AnnotatedVideo(Protocol):
    """A video as the data set's reader gives it; its length is its number of frames."""

    @property
    def id(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def tracks(self) -> Sequence[AnnotatedTrack]: ...
    def __len__(self) -> int: ...


class AnnotatedDataset(Protocol):
    """What :func:`ground_truth` needs of a data set."""

    @property
    def videos(self) -> Sequence[AnnotatedVideo]: ...


def require_instances(source: Path, tracks: Iterable[tuple[bool, bool]]) -> None:
    """Refuse annotations of which none can be found.

    Args:
        source: the file, for the error.
        tracks: of each annotation, whether it is a crowd, and whether a frame has a mask of it with a pixel.

    Raises:
        DataError: There is none that is no crowd and is seen.
    """
    crowds = unseen = 0
    for is_crowd, is_seen in tracks:
        if is_seen and not is_crowd:
            return
        crowds, unseen = crowds + is_crowd, unseen + (not is_crowd)
    numbers = f"annotations: {crowds + unseen}, crowds: {crowds}, others without a pixel: {unseen}"
    found = numbers if crowds + unseen else "there are no annotations"
    problem = f"has no annotated instance, so AP is undefined ({found})"
    fix = "evaluate on a split with labels; public validation sets have none"
    raise DataError(problem, file=source, key="annotations", fix=fix)


def is_seen(track: GroundTruthTrack) -> bool:
    """Whether a frame has a mask with a pixel, or one that is damaged: that is for the evaluation to name."""
    if isinstance(track.segmentations, Tube):
        return bool(track.segmentations.sheet.areas[track.segmentations.frames].any())
    return any(map(bool, track.segmentations))


def ground_truth(dataset: AnnotatedDataset) -> list[GroundTruthVideo]:
    """The annotations of a data set (``data.ytvis.VideoDataset``) in the form that the evaluation takes.

    Raises:
        DataError: A polygon is damaged.
    """
    return [
        GroundTruthVideo(video.id, video.height, video.width, len(video), [annotated(t) for t in video.tracks])
        for video in dataset.videos
    ]


def annotated(
    track: AnnotatedTrack, areas: Sequence[float | None] | None = None, annotation_id: int = 1
) -> GroundTruthTrack:
    """One instance, its polygons as RLEs; without ``areas`` its size is its ``mean_area``, if that is known.

    Raises:
        DataError: A polygon is damaged.
    """
    frames = [_frame(track, t, segmentation) for t, segmentation in enumerate(track.segmentations)]
    known = [track.mean_area] if areas is None and track.mean_area is not None else areas
    return GroundTruthTrack(track.label, frames, bool(track.iscrowd), known, annotation_id)


def _frame(track: AnnotatedTrack, t: int, segmentation: Any) -> RLE | None:
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        return segmentation  # type: ignore[return-value]  # checked when it is compared
    return masks.encode(track.mask(t))
