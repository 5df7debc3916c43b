"""Identities over time: how often an instance changes its track, and how pure tracks are.

In each frame, confident tracks and visible instances (crowds aside), of whatever class, are paired one to one so that
the sum of their mask IoUs is highest; a pair counts from IoU 0.5.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncvis.evaluation.matching import Flags
from syncvis.evaluation.overlaps import Overlap

MIN_SCORE = 0.3
MIN_IOU = 0.5


@dataclass(frozen=True)
class Identities:
    """Counts of one video, or of several together.

    Attributes:
        switches: times that an instance is in another track than when it was last in one.
        paired: frames, over all tracks, that are paired with an instance.
        pure: of these, those of each track's most frequent instance.
        visible: frames, over all instances, in which one can be seen.
        held: of these, those in the track that holds the instance longest.
    """

    switches: int
    paired: int
    pure: int
    visible: int
    held: int

    def rates(self) -> dict[str, float]:
        """switches, and 0 to 1: purity of tracks, coverage of instances by one track, and what is in none (lost)."""
        return {
            "switches": float(self.switches),
            "purity": self.pure / self.paired if self.paired else math.nan,
            "coverage": self.held / self.visible if self.visible else math.nan,
            "lost": 1 - self.paired / self.visible if self.visible else math.nan,
        }


def total(parts: Iterable[Identities]) -> Identities:
    """Sums over videos."""
    rows = [(p.switches, p.paired, p.pure, p.visible, p.held) for p in parts]
    return Identities(*np.sum(rows, axis=0, dtype=int).tolist()) if rows else Identities(0, 0, 0, 0, 0)


def identities(overlap: Overlap, scores: NDArray[np.float64], crowds: Flags) -> Identities:
    """Of one video.

    Args:
        overlap: of all pairs, whatever their classes.
        scores: (F,) of the tracks.
        crowds: (G,) annotations that are left out.
    """
    confident, wanted = np.flatnonzero(scores >= MIN_SCORE), np.flatnonzero(~crowds)
    shared = overlap.shared[np.ix_(confident, wanted)]
    found, truth = overlap.found[confident], overlap.truth[wanted]
    ious = shared / np.maximum(found[:, None] + truth[None] - shared, 1)
    pairs = [pair for t in range(ious.shape[2]) for pair in _pairs(ious[:, :, t])]  # in order of time
    visible = int((truth > 0).sum())
    return Identities(_switches(pairs), len(pairs), _most(pairs, 0), visible, _most(pairs, 1))


def _pairs(ious: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(track, instance) of one frame."""
    from scipy.optimize import linear_sum_assignment  # no part of a plain evaluation

    rows, columns = linear_sum_assignment(np.where(ious >= MIN_IOU, ious, 0.0), maximize=True)
    return [(int(f), int(g)) for f, g in zip(rows, columns, strict=True) if ious[f, g] >= MIN_IOU]


def _switches(pairs: list[tuple[int, int]]) -> int:
    last: dict[int, int] = {}
    switches = 0
    for track, instance in pairs:
        switches += last.get(instance, track) != track
        last[instance] = track
    return switches


def _most(pairs: list[tuple[int, int]], side: int) -> int:
    """Frames of the most frequent partner of each track (side 0) or instance (side 1), summed."""
    best: dict[int, int] = {}
    for pair, number in Counter(pairs).items():
        best[pair[side]] = max(best.get(pair[side], 0), number)
    return sum(best.values())
