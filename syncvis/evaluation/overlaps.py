"""Tracks of videos against their annotations: checked, then compared where it matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import numpy as np

from syncvis.errors import DataError
from syncvis.evaluation.matching import THRESHOLDS, Flags, Floats, Pairs
from syncvis.evaluation.strips import in_common
from syncvis.evaluation.truth import GroundTruthVideo
from syncvis.evaluation.tubes import Job, Tube, check_size, ranges, read_tubes, tube_of
from syncvis.ops import masks
from syncvis.ops.run_lengths import Ints
from syncvis.predictions import RLE, Track

Frames = Sequence[RLE | None]

MAX_COLUMNS = 2**24


@dataclass(frozen=True)
class Overlap:
    """F predicted and G annotated tracks of a video of T frames, in pixels.

    Attributes:
        shared: (F, G, T) intersections.
        found: (F, T) areas of the predicted tracks.
        truth: (G, T) areas of the annotated ones.
    """

    shared: Ints
    found: Ints
    truth: Ints

    def tube_ious(self) -> Floats:
        """(F, G), 0 where both are empty."""
        shared = self.shared.sum(axis=2)
        union = self.found.sum(axis=1)[:, None] + self.truth.sum(axis=1) - shared
        ious: Floats = shared / np.maximum(union, 1)
        return ious


def check(video: GroundTruthVideo, tracks: Sequence[Track], num_categories: int) -> None:
    """Check everything but masks.

    Raises:
        DataError: A track has the wrong number of frames, a class out of range or a score that is not finite; the
            video is too large.
    """
    if abs(video.id) >= 2**63:
        raise DataError(f"the id {str(video.id)[:30]} is over 64 bits", file="ground truth", fix="give it a smaller id")
    columns = video.length * video.width
    if video.height * video.width > masks.MAX_FRAME_PIXELS or not 0 < columns <= MAX_COLUMNS:
        raise DataError(
            f"{video.length} frames of {video.height} x {video.width} are over the limits: {masks.MAX_FRAME_PIXELS} "
            f"pixels a frame, {MAX_COLUMNS} columns in all",
            file=f"ground truth of video {video.id}",
            fix="cut or scale the video",
        )
    for n, annotated in enumerate(video.tracks):
        if problem := _problem(video, annotated.label, annotated.segmentations, num_categories):
            raise DataError(problem[0], file=_truth(video, n), fix=problem[1])
    for n, track in enumerate(tracks):
        if not math.isfinite(track.score):
            raise DataError(f"score is {track.score}", file=_found(video, n), fix="give a finite score")
        if problem := _problem(video, track.label, track.masks, num_categories):
            raise DataError(problem[0], file=_found(video, n), fix=problem[1])


def _problem(video: GroundTruthVideo, label: int, frames: Frames, num_categories: int) -> tuple[str, str] | None:
    """What is wrong with a track, and the fix."""
    if not 0 <= label < num_categories:
        return f"class index {label} is not in 0 .. {num_categories - 1}", "use the split's categories"
    if len(frames) != video.length:
        fix = "give one mask (or null) for every frame"
        return f"has {len(frames)} frames, the video {video.length}", fix
    return None


def _truth(video: GroundTruthVideo, n: int, t: int | None = None) -> str:
    return f"ground truth of video {video.id}, track {n}" + ("" if t is None else f", frame {t}")


def _found(video: GroundTruthVideo, n: int, t: int | None = None) -> str:
    return f"prediction for video {video.id}, track {n}" + ("" if t is None else f", frame {t}")


def truth_tubes(video: GroundTruthVideo) -> list[Tube]:
    """The annotations; DataError as :func:`found_tubes`."""
    frames = [track.segmentations for track in video.tracks]
    return [tube for _, tube in sorted(_tubes(video, frames, partial(_truth, video)), key=itemgetter(0))]


def found_tubes(video: GroundTruthVideo, tracks: Sequence[Track]) -> Iterator[tuple[int, Tube]]:
    """The tracks in any order, with their places; masks that nobody has read are read, and checked, few at a time.

    Raises:
        DataError: A mask is damaged or of another size than the video.
    """
    return _tubes(video, [track.masks for track in tracks], partial(_found, video))


def all_tubes(video: GroundTruthVideo, tracks: Sequence[Track]) -> list[Tube]:
    """All of :func:`found_tubes`, in the order of the tracks."""
    return [tube for _, tube in sorted(found_tubes(video, tracks), key=itemgetter(0))]


def _tubes(
    video: GroundTruthVideo, tracks: Sequence[Frames], where: Callable[[int, int], str]
) -> Iterator[tuple[int, Tube]]:
    size = video.height, video.width
    unread = []
    for n, frames in enumerate(tracks):
        if isinstance(frames, Tube):
            check_size(frames, size, partial(where, n))
            yield n, frames
        else:
            unread.append(Job(n, frames, size))
    yield from read_tubes(unread, lambda job: tube_of(job.frames, size, partial(where, job.place)))


def overlap(found: Sequence[Tube], truth: Sequence[Tube], frames: int) -> Overlap:
    """Of all pairs, frame by frame."""
    size = len(found), len(truth), frames
    d, g = np.indices(size[:2]).reshape(2, -1)
    shared = shared_pixels(Tracks(found), Tracks(truth), d, g).reshape(size)
    areas = [
        np.array([t.sheet.areas[t.frames] for t in tubes], np.int64).reshape(-1, frames) for tubes in (found, truth)
    ]
    return Overlap(shared, *areas)


class Tracks:
    """Tubes, and the areas and columns of all frames of their sheets, one after the other."""

    def __init__(self, tubes: Sequence[Tube]) -> None:
        self.sheets = list({id(tube.sheet): tube.sheet for tube in tubes}.values())
        number = {id(sheet): n for n, sheet in enumerate(self.sheets)}
        rows = [(number[id(tube.sheet)], tube.start, tube.length) for tube in tubes]
        self.sheet, self.place, self.lengths = np.array(rows, np.int64).reshape(-1, 3).T
        frames = np.cumsum([0, *(len(sheet.areas) for sheet in self.sheets)])
        self.start = frames[self.sheet] + self.place
        self.areas = np.concatenate([np.zeros(0, np.int64), *(sheet.areas for sheet in self.sheets)])
        none = np.zeros((2, 0), np.int64)
        self.left, self.right = np.concatenate([none, *(sheet.spans for sheet in self.sheets)], axis=1)
        self.totals = self._sums(self.areas)

    def _sums(self, values: Ints) -> Ints:
        sums = np.concatenate([[0], np.cumsum(values)])
        return sums[self.start + self.lengths] - sums[self.start]

    def mean_areas(self) -> Floats:
        """(N,) over the frames with a pixel, 0 without one."""
        means: Floats = self.totals / np.maximum(self._sums((self.areas > 0).astype(np.int64)), 1)
        return means


def likely_pairs(found: Tracks, truth: Tracks, d: Ints, g: Ints) -> Pairs:
    """Of pairs of the same number of frames those that can be matched, with their IoU.

    Args:
        d: (P,) places in ``found``.
        g: (P,) places in ``truth``.
    """
    likely = _may_reach(found, truth, d, g)
    d, g = d[likely], g[likely]
    lengths = found.lengths[d]
    frames = shared_pixels(found, truth, d, g)
    shared = np.add.reduceat(frames, np.cumsum(lengths) - lengths) if len(d) else frames
    ious = shared / np.maximum(found.totals[d] + truth.totals[g] - shared, 1)
    reached = ious >= THRESHOLDS[0]
    return Pairs(d[reached], g[reached], ious[reached])


def _may_reach(found: Tracks, truth: Tracks, d: Ints, g: Ints) -> Flags:
    """Which pairs can have an IoU of the least threshold, as far as areas and columns tell."""
    lengths = found.lengths[d]
    i, j = ranges(found.start[d], lengths), ranges(truth.start[g], lengths)
    begin = np.cumsum(lengths) - lengths
    touching = (found.left[i] < truth.right[j]) & (truth.left[j] < found.right[i])
    most = np.add.reduceat(np.minimum(found.areas[i], truth.areas[j]) * touching, begin) if len(d) else lengths
    return most >= THRESHOLDS[0] * (found.totals[d] + truth.totals[g] - most)


def shared_pixels(found: Tracks, truth: Tracks, d: Ints, g: Ints) -> Ints:
    """The pixels that each pair shares in each frame, pair by pair."""
    lengths = found.lengths[d]
    begin = np.cumsum(lengths) - lengths
    result = np.zeros(lengths.sum(), np.int64)
    group = found.sheet[d] * len(truth.sheets) + truth.sheet[g]
    order = np.argsort(group, kind="stable")
    for pairs in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(d) else []:
        sheets = found.sheets[found.sheet[d[pairs[0]]]], truth.sheets[truth.sheet[g[pairs[0]]]]
        places = found.place[d[pairs]], truth.place[g[pairs]]
        i, j = (ranges(place, lengths[pairs]) for place in places)
        result[ranges(begin[pairs], lengths[pairs])] = in_common(*sheets, i, j)
    return result
