"""The tracks of one video against its annotations: checked, then compared frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syncvis.errors import DataError
from syncvis.evaluation import tubes
from syncvis.evaluation.matching import Flags, Floats
from syncvis.evaluation.occlusion import boxes
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo
from syncvis.ops import masks
from syncvis.ops.run_lengths import Ints, pairs_of, parse_counts
from syncvis.structures import RLE, Track

Frames = Sequence[RLE | None]

# What is held at a time: characters of compressed masks, as far as every eighth frame tells, and columns of pixels.
_CHUNK_CHARACTERS = 1_000_000
MAX_COLUMNS = 2**24


@dataclass(frozen=True)
class Overlap:
    """F predicted and G annotated tracks of a video of T frames, in pixels.

    Attributes:
        shared: (F, G, T) intersections; 0 for pairs that were not asked for.
        found: (F, T) areas of the predicted tracks.
        truth: (G, T) areas of the annotated ones.
    """

    shared: Ints
    found: Ints
    truth: Ints

    def tube_ious(self) -> Floats:
        """(F, G)."""
        return tubes.tube_ious(self.shared.sum(axis=2), self.found.sum(axis=1), self.truth.sum(axis=1))


def compare(video: GroundTruthVideo, tracks: Sequence[Track], num_categories: int, all_pairs: bool) -> Overlap:
    """Overlap of the tracks with the annotations.

    Args:
        all_pairs: also pairs of different classes.

    Raises:
        DataError: A track has the wrong number of frames, a class out of range or a score that is not finite; a mask
            is damaged or of another size; the video is too large.
    """
    _check_video(video)
    _check_tracks(video, tracks, num_categories)
    size = len(tracks), len(video.tracks), video.length
    overlap = Overlap(*(np.zeros(shape, np.int64) for shape in (size, size[::2], size[1:])))
    wanted = _wanted(video.tracks, tracks, all_pairs)
    by_class = sorted(range(len(tracks)), key=lambda n: tracks[n].label)  # so that one class lies together
    frames = [*(t.segmentations for t in video.tracks), *(tracks[n].masks for n in by_class)]
    wheres = [*(_truth(video, g) for g in range(size[1])), *(_found(video, n) for n in by_class)]
    truth: list[tubes.Strips] = []  # known before the first predicted track comes
    for chunk in _chunks(video, frames):
        part = _parse(video, [frames[n] for n in chunk], [wheres[n] for n in chunk])
        annotated = sum(n < size[1] for n in chunk)
        for place in range(annotated):
            overlap.truth[chunk[place]] = part.areas[place]
            truth.append(part.select(np.array([place])))
        if annotated < len(chunk):
            found = part.select(np.arange(annotated, len(chunk)))
            _intersect(
                video, overlap, found, np.array([by_class[n - size[1]] for n in chunk[annotated:]]), truth, wanted
            )
    return overlap


def _intersect(
    video: GroundTruthVideo, overlap: Overlap, found: tubes.Strips, rows: Ints, truth: list[tubes.Strips], wanted: Flags
) -> None:
    """Fill the ``rows`` of an overlap, which ``found`` are the tracks of."""
    overlap.found[rows] = found.areas
    for g in np.flatnonzero(wanted[rows].any(axis=0)):
        places = np.flatnonzero(wanted[rows, g])
        overlap.shared[rows[places], g] = tubes.intersections(found.select(places), truth[g], _columns(video))


def _wanted(truth: Sequence[GroundTruthTrack], tracks: Sequence[Track], all_pairs: bool) -> Flags:
    """(F, G) the pairs whose overlap is needed."""
    labels = np.array([track.label for track in tracks], int), np.array([track.label for track in truth], int)
    return (labels[0][:, None] == labels[1]) | all_pairs


def _columns(video: GroundTruthVideo) -> int:
    return video.length * video.width


def _check_video(video: GroundTruthVideo) -> None:
    if video.height * video.width > masks.MAX_FRAME_PIXELS or not 0 < _columns(video) <= MAX_COLUMNS:
        raise DataError(
            f"{video.length} frames of {video.height} x {video.width} are over the limits: {masks.MAX_FRAME_PIXELS} "
            f"pixels a frame, {MAX_COLUMNS} columns in all",
            file=f"ground truth of video {video.id}",
            fix="cut or scale the video",
        )


def _check_tracks(video: GroundTruthVideo, tracks: Sequence[Track], num_categories: int) -> None:
    for n, annotated in enumerate(video.tracks):
        _check_track(video, annotated.label, annotated.segmentations, num_categories, _truth(video, n))
    for n, track in enumerate(tracks):
        where = _found(video, n)
        if not math.isfinite(track.score):
            raise DataError(f"score is {track.score}", file=where, fix="give a finite score")
        _check_track(video, track.label, track.masks, num_categories, where)


def _truth(video: GroundTruthVideo, n: int) -> str:
    return f"ground truth of video {video.id}, track {n}"


def _found(video: GroundTruthVideo, n: int) -> str:
    return f"prediction for video {video.id}, track {n}"


def _check_track(video: GroundTruthVideo, label: int, frames: Frames, num_categories: int, where: str) -> None:
    if not 0 <= label < num_categories:
        problem = f"class index {label} is not in 0 .. {num_categories - 1}"
        raise DataError(problem, file=where, fix="use the split's categories")
    if len(frames) != video.length:
        problem = f"has {len(frames)} frames, the video {video.length}"
        raise DataError(problem, file=where, fix="give one mask (or null) for every frame")


def _truth_strips(video: GroundTruthVideo) -> tubes.Strips:
    tracks = [track.segmentations for track in video.tracks]
    parts = [_parse(video, [tracks[n] for n in c], [_truth(video, n) for n in c]) for c in _chunks(video, tracks)]
    return tubes.join(parts, video.length)


def truth_boxes(video: GroundTruthVideo) -> Ints:
    """(G, T, 4) boxes of the annotations of a video that :func:`compare` has taken."""
    return boxes(_truth_strips(video), video.width)


def _chunks(video: GroundTruthVideo, tracks: Sequence[Frames]) -> Iterator[list[int]]:
    """Places of tracks that are small enough to be held together."""
    chunk: list[int] = []
    characters = 0
    for n, frames in enumerate(tracks):
        size = len(frames) * max(map(_characters, frames[::8]), default=1)
        full = characters + size > _CHUNK_CHARACTERS or (len(chunk) + 1) * _columns(video) > MAX_COLUMNS
        if chunk and full:
            yield chunk
            chunk, characters = [], 0
        chunk.append(n)
        characters += size
    if chunk:
        yield chunk


def _characters(rle: Any) -> int:
    counts = rle.get("counts") if isinstance(rle, dict) else None
    return len(counts) if isinstance(counts, str | bytes | list) else 1


def _parse(video: GroundTruthVideo, tracks: Sequence[Frames], wheres: Sequence[str]) -> tubes.Strips:
    """Strips of some tracks, after a check of every mask."""
    pixels = video.height * video.width
    try:
        pairs = parse_counts(_texts(video, tracks), pixels)
    except (ValueError, TypeError, KeyError):  # another form of counts, or damage: mask by mask, which names it
        named = [
            (rle, f"{where}, frame {t}") for where, f in zip(wheres, tracks, strict=True) for t, rle in enumerate(f)
        ]
        pairs = pairs_of([_runs(video, rle, where) for rle, where in named], pixels)
    return tubes.cut(pairs, video.length, video.height, video.width)


def _texts(video: GroundTruthVideo, tracks: Sequence[Frames]) -> list[str]:
    """Compressed counts of all frames, as they are; TypeError or KeyError where one is of another form."""
    size = [video.height, video.width]
    empty = masks.from_runs(np.array([video.height * video.width]), *size)
    rles: list[Any] = [rle or empty for frames in tracks for rle in frames]
    texts = [rle["counts"] for rle in rles if rle["size"] == size]
    if len(texts) < len(rles):
        raise ValueError("a mask has another size")
    return texts


def _runs(video: GroundTruthVideo, rle: RLE | None, where: str) -> masks.Runs:
    if not rle:
        return np.array([video.height * video.width])
    return masks.sized_runs(rle, video.height, video.width, where)
