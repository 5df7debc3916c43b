"""Which predicted track finds which annotated one, and average precision of that: COCO's rules, on arrays.

Shape letters: A area ranges, L IoU thresholds, D predicted tracks, G annotated ones, P pairs of the two, M groups of
tracks that a precision is asked of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_TRACKS = 100  # of one class in one video


@dataclass(frozen=True)
class Pairs:
    """Pairs of a predicted and an annotated track of one class and video, with an IoU of at least 0.5.

    Attributes:
        found: (P,) place of the predicted one.
        truth: (P,) place of the annotated one.
        ious: (P,).
    """

    found: Ints
    truth: Ints
    ious: Floats


@dataclass(frozen=True)
class Annotated:
    """Annotated tracks.

    Attributes:
        areas: (G,) mean pixels where it is seen.
        crowds: (G,) annotated as a crowd: neither found nor missed, whatever matches it is ignored.
        countable: (G,) False for an annotation with id 0, which the official evaluator takes for "not matched".
    """

    areas: Floats
    crowds: Flags
    countable: Flags

    def ignored(self, ranges: Sequence[tuple[float, float]]) -> Flags:
        """(A, G) crowds and those outside each area range."""
        return self.crowds | _outside(self.areas, ranges)


def _outside(areas: Floats, ranges: Sequence[tuple[float, float]]) -> Flags:
    least, most = np.array(ranges, float).T[:, :, None]
    return (areas < least) | (areas > most)


@dataclass(frozen=True)
class Matches:
    """What became of predicted tracks.

    Attributes:
        hits: (A, L, D) the track has found an annotated one.
        ignored: (A, L, D) the track counts neither as right nor as wrong.
        found: (D,) the annotated track that was found in the first area range at the first threshold, -1 for none.
    """

    hits: Flags
    ignored: Flags
    found: Ints


def match(
    areas: Floats, groups: Ints, pairs: Pairs, truth: Annotated, ranges: Sequence[tuple[float, float]]
) -> Matches:
    """Give each track, best first, the free annotated one of the highest IoU; of equal ones the last.

    An annotated track outside the area range, or a crowd, is ignored: it is taken only if no other one can be.

    Args:
        areas: (D,) mean pixels of the predicted tracks where they are seen.
        groups: (D,) the group, that is class and video, of each; a group lies together, its best track first.
    """
    ignored = truth.ignored(ranges)
    chosen = _choose(len(areas), groups, pairs, truth.crowds, ignored)
    some = chosen >= 0
    hits = some & np.append(truth.countable, False)[chosen]
    matched_ignored = np.take_along_axis(np.pad(ignored, ((0, 0), (0, 1)))[:, None], chosen, axis=2)
    outside = _outside(areas, ranges)[:, None]
    return Matches(hits, matched_ignored | (~hits & outside), chosen[0, 0])


def _choose(tracks: int, groups: Ints, pairs: Pairs, crowds: Flags, ignored: Flags) -> Ints:
    """(A, L, D) the annotated track of each predicted one, -1 for none."""
    chosen = np.full((len(ignored), len(THRESHOLDS), tracks), -1)
    limits = np.minimum(THRESHOLDS, 1 - 1e-10)
    free = np.ones((*chosen.shape[:2], len(crowds)), bool)
    order = np.lexsort((pairs.truth, pairs.ious, pairs.found))
    found, truth, ious = pairs.found[order], pairs.truth[order], pairs.ious[order]
    rounds = _rounds(found, groups)
    for turn in range(int(rounds.max(initial=-1)) + 1):
        now = np.flatnonzero(rounds == turn)
        place, g = np.arange(len(now)), truth[now]
        open_ = free[:, :, g] & (ious[now] >= limits[:, None])
        # The last of the open ones, and of the others only where none is regular.
        rank = np.where(open_, (place + len(now) * ~ignored[:, g])[:, None], -1)
        starts = np.flatnonzero(np.diff(found[now], prepend=-1))
        best = np.maximum.reduceat(rank, starts, axis=2)
        taken = np.where(best >= 0, g[best % len(now)], -1)
        chosen[:, :, found[now[starts]]] = taken
        area, threshold, n = np.nonzero((taken >= 0) & ~crowds[taken])
        free[area, threshold, taken[area, threshold, n]] = False
    return chosen


def _rounds(found: Ints, groups: Ints) -> Ints:
    """(P,) how many tracks of its group come, with a pair, before that of each pair."""
    new = np.diff(found, prepend=-1) != 0
    number = np.cumsum(new) - 1
    group = groups[found]
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    return number - np.repeat(number[begins], np.diff(begins, append=len(found)))


@dataclass(frozen=True)
class Ranked:
    """Tracks of M groups, group by group, the best of each first.

    Attributes:
        groups: (D,) the group of each track.
        hits: (A, L, D).
        ignored: (A, L, D).
        ranks: (D,) how many tracks of its class and video are better.
        instances: (M, A) annotated tracks to find.
    """

    groups: Ints
    hits: Flags
    ignored: Flags
    ranks: Ints
    instances: Ints

    def precision(self) -> Floats:
        """(M, A, L) mean over 101 recall levels; NaN without instance."""
        counted = np.cumsum(~self.ignored, axis=2, dtype=np.int32)
        area, threshold, track = np.nonzero(self.hits & ~self.ignored)
        group = self.groups[track]
        row = (area * self.hits.shape[1] + threshold) * len(self.instances) + group
        before = np.pad(counted, ((0, 0), (0, 0), (1, 0)))[area, threshold, np.searchsorted(self.groups, group)]
        first = np.flatnonzero(np.diff(row, prepend=-1))
        right = np.arange(1, len(row) + 1) - np.repeat(first, np.diff(first, append=len(row)))
        precision = right / (counted[area, threshold, track] - before + np.spacing(1))
        levels = _levels(right, self.instances[group, area])
        sums = np.bincount(row, _highest_behind(precision, row) * levels, self._rows)
        return self._where_defined(sums / len(RECALLS))

    def recall(self, most: int) -> Floats:
        """(M, A, L) share of the instances that the best ``most`` tracks of each video find; NaN without instance."""
        best = self.ranks < most
        area, threshold, track = np.nonzero((self.hits & ~self.ignored)[:, :, best])
        row = (area * self.hits.shape[1] + threshold) * len(self.instances) + self.groups[best][track]
        return self._where_defined(np.bincount(row, minlength=self._rows)) / np.maximum(self.instances, 1)[..., None]

    @property
    def _rows(self) -> int:
        return self.instances.size * self.hits.shape[1]

    def _where_defined(self, sums: NDArray[np.number]) -> Floats:
        """(A * L * M,) -> (M, A, L)."""
        table = sums.reshape(*self.hits.shape[:2], -1).transpose(2, 0, 1)
        return np.where(self.instances[..., None] > 0, table, np.nan)


def _levels(right: Ints, instances: Ints) -> Ints:
    """How many recall levels are first reached with the ``right``-th hit."""
    reached = np.searchsorted(RECALLS, right / instances, side="right")
    return reached - np.where(right > 1, np.searchsorted(RECALLS, (right - 1) / instances, side="right"), 0)


def _highest_behind(values: Floats, row: Ints) -> Floats:
    """The highest of each value and those behind it in its row."""
    highest, step = values.copy(), 1
    while step < len(row) and (same := row[step:] == row[:-step]).any():
        highest[:-step] = np.where(same, np.maximum(highest[:-step], highest[step:]), highest[:-step])
        step *= 2
    return highest
