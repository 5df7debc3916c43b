"""Which predicted track finds which annotated one, and average precision of that: COCO's rules, on arrays.

Shape letters: A area ranges, L IoU thresholds, D predicted tracks, G annotated ones, R = 101 recall levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_TRACKS = 100  # of one class in one video


@dataclass(frozen=True)
class Candidates:
    """The tracks of one class in one video.

    Attributes:
        scores: (D,) best first, at most :data:`MOST_TRACKS`.
        areas: (D,) mean pixels of a track where it is seen.
        ious: (D, G).
        truth_areas: (G,) likewise.
        crowds: (G,) annotated as a crowd: neither found nor missed, whatever matches it is ignored.
        countable: (G,) False for an annotation with id 0, which the official evaluator takes for "not matched".
    """

    scores: Floats
    areas: Floats
    ious: Floats
    truth_areas: Floats
    crowds: Flags
    countable: Flags


@dataclass(frozen=True)
class Matches:
    """What became of the tracks of one class in one video.

    Attributes:
        scores: (D,) best first.
        hits: (A, L, D) the track has found an annotated one.
        ignored: (A, L, D) the track counts neither as right nor as wrong.
        instances: (A,) annotated tracks to find.
        found: (L, D) the annotated track that was found in the first area range, -1 for none.
    """

    scores: Floats
    hits: Flags
    ignored: Flags
    instances: NDArray[np.int64]
    found: NDArray[np.int64]

    def first_range(self) -> Matches:
        """The same for the first area range alone."""
        return Matches(self.scores, self.hits[:1], self.ignored[:1], self.instances[:1], self.found)


def match(tracks: Candidates, ranges: Sequence[tuple[float, float]]) -> Matches:
    """Give each track, best first, the free annotated one of the highest IoU; of equal ones the last.

    An annotated track outside the area range, or a crowd, is ignored: it is taken only if no other one can be.
    """
    least, most = np.array(ranges, float).T[:, :, None]
    ignored_truth = tracks.crowds | (tracks.truth_areas < least) | (tracks.truth_areas > most)  # (A, G)
    instances = (~ignored_truth).sum(axis=1)
    outside = ((tracks.areas < least) | (tracks.areas > most))[:, None]
    if tracks.ious.max(initial=0) < THRESHOLDS[0]:
        shape = (len(ranges), len(THRESHOLDS), len(tracks.scores))
        ignored = np.broadcast_to(outside, shape)
        return Matches(tracks.scores, np.zeros(shape, bool), ignored, instances, np.full(shape[1:], -1))
    chosen = _choose(tracks.ious, tracks.crowds, ignored_truth)  # (A, L, D)
    hits = (chosen >= 0) & tracks.countable[chosen]
    matched_ignored = ignored_truth[np.arange(len(ranges))[:, None, None], chosen] & (chosen >= 0)
    return Matches(tracks.scores, hits, matched_ignored | (~hits & outside), instances, chosen[0])


def _choose(ious: Floats, crowds: Flags, ignored: Flags) -> NDArray[np.int64]:
    """(A, L, D) the annotated track of each predicted one, -1 for none."""
    shape = (len(ignored), len(THRESHOLDS), len(ious))
    chosen = np.full(shape, -1)
    limits = np.minimum(THRESHOLDS, 1 - 1e-10)
    free = np.ones((*shape[:2], len(crowds)), bool)
    range_, threshold = np.ogrid[: shape[0], : shape[1]]
    regular = ~ignored[:, None]
    for d in np.flatnonzero(ious.max(axis=1, initial=0) >= limits[0]):
        # Reversed, so that of equal ones argmax takes the last.
        iou = ious[d, ::-1]
        open_ = (free & (iou[::-1] >= limits[:, None]))[..., ::-1]
        first = np.where(open_ & regular[..., ::-1], iou, -1.0)
        wanted = np.where((first >= 0).any(axis=2, keepdims=True), first, np.where(open_, iou, -1.0))
        best = wanted.argmax(axis=2)
        some = wanted[range_, threshold, best] >= 0
        best = len(crowds) - 1 - best
        chosen[..., d] = np.where(some, best, -1)
        free[range_, threshold, best] &= ~some | crowds[best]
    return chosen


@dataclass(frozen=True)
class Curve:
    """precision (A, L, R) at each recall level and recall (A, L) reached; NaN in ranges without instance."""

    precision: Floats
    recall: Floats


def curve(matches: Sequence[Matches], most: int = MOST_TRACKS) -> Curve:
    """Of one class over several videos, with the best ``most`` tracks of each.

    Of equal scores the track of the earlier video counts as the better one.
    """
    instances = np.sum([m.instances for m in matches], axis=0)[:, None]
    order = np.argsort(-np.concatenate([m.scores[:most] for m in matches]), kind="stable")
    hits = np.concatenate([m.hits[..., :most] for m in matches], axis=2)[..., order]
    counted = ~np.concatenate([m.ignored[..., :most] for m in matches], axis=2)[..., order]
    right = np.cumsum(hits & counted, axis=2).astype(float)
    wrong = np.cumsum(~hits & counted, axis=2).astype(float)
    undefined = np.where(instances > 0, 0.0, np.nan)
    recalls = right / np.maximum(instances, 1)[..., None]
    precisions = right / (wrong + right + np.spacing(1))
    highest = np.maximum.accumulate(precisions[..., ::-1], axis=2)[..., ::-1]
    precision = _at_recalls(recalls, highest) + undefined[..., None]
    return Curve(precision, (recalls[..., -1] if len(order) else np.zeros(recalls.shape[:2])) + undefined)


def recall(matches: Sequence[Matches], most: int) -> Floats:
    """(A, L) share of the instances that the best ``most`` tracks of each video find; NaN without instance."""
    instances = np.sum([m.instances for m in matches], axis=0)[:, None]
    right = np.sum([(m.hits & ~m.ignored)[..., :most].sum(axis=2) for m in matches], axis=0)
    return np.divide(right, instances, out=np.full(right.shape, np.nan), where=instances > 0)


def _at_recalls(recalls: Floats, precisions: Floats) -> Floats:
    """(A, L, R) precision where each recall level is first reached, 0 where it never is."""
    reached = np.concatenate([precisions, np.zeros((*precisions.shape[:2], 1))], axis=2)
    result = np.empty((*recalls.shape[:2], len(RECALLS)))
    for place in np.ndindex(*recalls.shape[:2]):
        result[place] = reached[place][np.searchsorted(recalls[place], RECALLS, side="left")]
    return result
