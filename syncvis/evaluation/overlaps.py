"""Tracks of videos against their annotations: checked, then compared where it matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from syncvis.errors import DataError
from syncvis.evaluation.matching import THRESHOLDS, Floats, Pairs
from syncvis.evaluation.truth import GroundTruthVideo
from syncvis.evaluation.tubes import Job, Tube, check_size, read_tubes, tube_of
from syncvis.ops import masks
from syncvis.ops.run_lengths import Ints
from syncvis.predictions import RLE, Track

Frames = Sequence[RLE | None]

MAX_COLUMNS = 2**24
# Frames of pairs of tracks whose areas are looked at together.
_CHUNK_FRAMES = 2**17


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


class Canvas:
    """An annotated track by column: the first, second ... strip of each column, and which columns have another."""

    def __init__(self, tube: Tube) -> None:
        column, edges = tube.columns, tube.edges
        # A run without pixels may stand behind the last column.
        size, packed = len(tube) * tube.size[1] + 1, edges.view(_packed(edges))[:, 0]
        self._dtype, self._layers, self._more = edges.dtype, [np.zeros(size, packed.dtype)], []
        self._layers[0][column] = packed
        while len(rest := np.flatnonzero(column[1:] == column[:-1])):
            # Of the strips of a column the last one stays, the others are for the next layers.
            column, packed = column[rest], packed[rest]
            self._more.append(np.zeros(size, bool))
            self._more[-1][column] = True
            self._layers.append(np.zeros(size, packed.dtype))
            self._layers[-1][column] = packed

    def shared(self, tube: Tube) -> NDArray[np.signedinteger]:
        """(S,) the pixels that each strip of a track has in common with this one."""
        column, edges = tube.columns, tube.edges
        total = self._common(0, column, edges)
        rest = np.arange(0)
        for n, more in enumerate(self._more):
            chosen = np.flatnonzero(more.take(column))
            column, edges, rest = column[chosen], edges[chosen], rest[chosen] if n else chosen
            total[rest] += self._common(n + 1, column, edges)
        return total

    def _common(self, layer: int, column: Ints, edges: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
        smaller = self._layers[layer].take(column).view(self._dtype).reshape(-1, 2)
        np.minimum(smaller, edges, out=smaller)
        common = smaller[:, 0] + smaller[:, 1]
        return np.maximum(common, self._dtype.type(0), out=common)


def _packed(edges: NDArray[np.signedinteger]) -> type[np.int32] | type[np.int64]:
    """The integer that holds both numbers of a strip."""
    return np.int32 if edges.dtype == np.int16 else np.int64


def overlap(found: Sequence[Tube], truth: Sequence[Tube], frames: int) -> Overlap:
    """Of all pairs, frame by frame."""
    shared = np.zeros((len(found), len(truth), frames), np.int64)
    for g, annotated in enumerate(truth):
        canvas = Canvas(annotated)
        for f, tube in enumerate(found):
            shared[f, g] = np.add.reduceat(canvas.shared(tube), tube.first[:-1], dtype=np.int64)
    areas = [np.array([tube.areas for tube in tubes], np.int64).reshape(-1, frames) for tubes in (found, truth)]
    return Overlap(shared, *areas)


class Tracks:
    """Tubes, and the areas and columns of all their frames, one after the other."""

    def __init__(self, tubes: Sequence[Tube]) -> None:
        self.tubes = tubes
        self.lengths = np.array([len(tube) for tube in tubes], np.int64)
        self.start = np.cumsum(self.lengths) - self.lengths
        self.areas = np.concatenate([np.zeros(0, np.int64), *(tube.areas for tube in tubes)])
        self.left, self.right = np.concatenate([np.zeros((0, 2), np.int64), *(tube.spans for tube in tubes)]).T
        self.totals = self._sums(self.areas)

    def _sums(self, values: Ints) -> Ints:
        return np.add.reduceat(values, self.start) if len(self.start) else self.start

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
    chunk = np.cumsum(found.lengths[d]) // _CHUNK_FRAMES
    kept = [_may_reach(found, truth, d[chunk == c], g[chunk == c]) for c in np.unique(chunk)]
    likely = np.flatnonzero(np.concatenate([np.zeros(0, bool), *kept]))
    likely = likely[np.argsort(g[likely], kind="stable")]
    d, g = d[likely], g[likely]
    shared = np.zeros(len(d), np.int64)
    canvas, drawn = None, -1
    for n, (a, b) in enumerate(zip(d.tolist(), g.tolist(), strict=True)):
        if canvas is None or b != drawn:
            canvas, drawn = Canvas(truth.tubes[b]), b
        shared[n] = canvas.shared(found.tubes[a]).sum(dtype=np.int64)
    ious = shared / np.maximum(found.totals[d] + truth.totals[g] - shared, 1)
    reached = ious >= THRESHOLDS[0]
    return Pairs(d[reached], g[reached], ious[reached])


def _may_reach(found: Tracks, truth: Tracks, d: Ints, g: Ints) -> NDArray[np.bool_]:
    """Which pairs can have an IoU of the least threshold, as far as areas and columns tell."""
    lengths = found.lengths[d]
    begin = np.cumsum(lengths) - lengths
    t = np.arange(lengths.sum()) - np.repeat(begin, lengths)
    i, j = t + np.repeat(found.start[d], lengths), t + np.repeat(truth.start[g], lengths)
    a, b = found.areas[i], truth.areas[j]
    touching = (found.left[i] < truth.right[j]) & (truth.left[j] < found.right[i])
    most = np.add.reduceat(np.minimum(a, b) * touching, begin)
    union = np.add.reduceat(a + b, begin) - most
    return most >= THRESHOLDS[0] * union
