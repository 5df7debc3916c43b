"""What kind of mistake each wrong track is, and what AP50 would gain without it.

After TIDE (Bolya et al., ECCV 2020), with tubes for boxes and its localisation error in two: a track that is wrong at
IoU 0.5 is, by the first that holds,

- ``mask`` or ``track``: its best instance of its class has an IoU of 0.1 to 0.5. It is ``track`` if the IoU over the
  frames in which the two touch is 0.5 or more, so that the track loses the instance, or goes on without it; else
  ``mask``.
- ``class``: an instance of another class has an IoU of 0.5 or more.
- ``duplicate``: an instance of its class has, but a better track has found it.
- ``background``: nothing of that.

``miss`` is an instance that no track has found and no mask, track or class error concerns. Without its errors, AP50 is
counted anew: mask, track and class errors become right if their instance is not found (the best track of each), other
wrong tracks are left out, missed instances are not looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncvis.evaluation.judged import Judged
from syncvis.evaluation.matching import Flags, Floats, Ranked
from syncvis.evaluation.overlaps import Overlap
from syncvis.evaluation.summary import mean

KINDS = ("class", "mask", "track", "duplicate", "background", "miss")
MENDED = ("class", "mask", "track")
FOREGROUND, BACKGROUND = 0.5, 0.1

Instance = tuple[int, int]  # video id and place in the video
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """A wrong track, or a missed instance.

    Attributes:
        kind: one of :data:`KINDS`.
        label: class of the track, for a miss of the instance.
        score: of the track, 0 for a miss.
        instance: what a mended error is about, if it is still to be found.
        wanted: the class of that.
    """

    kind: str
    label: int
    score: float
    instance: Instance | None = None
    wanted: int = -1


def faults(video_id: int, overlap: Overlap, labels: Ints, crowds: Flags, judged: Judged) -> list[Fault]:
    """Of one video.

    Args:
        overlap: of all pairs, whatever their classes.
        labels: (G,) classes of the annotations.
        crowds: (G,) annotations that are left out.
        judged: of the video.
    """
    ious = np.where(crowds, 0.0, overlap.tube_ious())
    found = set(judged.found[judged.found >= 0].tolist())
    result: list[Fault] = []
    near: set[int] = set()
    for d in np.flatnonzero(~judged.hits[0, 0] & ~judged.ignored[0, 0]):
        track, label = judged.places[d], int(judged.labels[d])
        kind, g = _kind(track, ious[track], labels == label, overlap)
        instance = (video_id, g) if g is not None and g not in found else None
        near |= set() if g is None else {g}
        wanted = -1 if g is None else int(labels[g])
        result.append(Fault(kind, label, float(judged.scores[d]), instance, wanted))
    missed = [g for g in np.flatnonzero(~crowds).tolist() if g not in found | near]
    return result + [Fault("miss", int(labels[g]), 0.0) for g in missed]


def _kind(track: int, ious: Floats, same: Flags, overlap: Overlap) -> tuple[str, int | None]:
    """The kind of error, and the instance that it is about."""
    if not len(ious):
        return "background", None
    own, other = np.where(same, ious, 0.0), np.where(same, 0.0, ious)
    best, confused = int(own.argmax()), int(other.argmax())
    if BACKGROUND <= own[best] < FOREGROUND:
        return ("track" if _iou_where_touching(overlap, track, best) >= FOREGROUND else "mask"), best
    if other[confused] >= FOREGROUND:
        return "class", confused
    return ("duplicate" if own[best] >= FOREGROUND else "background"), None


def _iou_where_touching(overlap: Overlap, track: int, instance: int) -> float:
    shared = overlap.shared[track, instance]
    both = (overlap.found[track] + overlap.truth[instance])[shared > 0].sum()
    return float(shared.sum() / max(both - shared.sum(), 1))


def gains(found: Sequence[Fault], judged: Judged) -> dict[str, dict[str, float]]:
    """Of each kind the number and the AP50, in percent, that would be gained without it.

    Args:
        found: faults of all videos.
        judged: all videos.
    """
    now, number = _ap50(found, judged, ""), Counter(fault.kind for fault in found)
    return {k: {"count": float(number[k]), "AP50": 100 * (_ap50(found, judged, k) - now)} for k in KINDS}


def _ap50(found: Sequence[Fault], judged: Judged, mended: str) -> float:
    """Mean over the classes as if there were no errors of the kind ``mended``."""
    hits = np.flatnonzero(judged.hits[0, 0] & ~judged.ignored[0, 0])
    right = list(zip(judged.labels[hits].tolist(), judged.scores[hits].tolist(), strict=True))
    wrong: list[tuple[int, float]] = []
    instances = Counter(judged.truth_labels[judged.wanted[0]].tolist())
    done: set[Instance] = set()
    for fault in sorted(found, key=lambda fault: -fault.score):
        if fault.kind == "miss":
            instances[fault.label] -= mended == "miss"
        elif fault.kind != mended:
            wrong.append((fault.label, fault.score))
        elif fault.instance is not None and fault.instance not in done:
            done.add(fault.instance)
            right.append((fault.wanted, fault.score))
    return _mean_ap(right, wrong, instances)


def _mean_ap(right: list[tuple[int, float]], wrong: list[tuple[int, float]], instances: Mapping[int, int]) -> float:
    labels, scores = np.array([*right, *wrong], float).reshape(-1, 2).T
    order = np.lexsort((-scores, labels))
    groups, number = np.zeros(len(order), np.int64) + labels[order].astype(np.int64), max([-1, *labels, *instances]) + 1
    hits = (order < len(right))[None, None]
    wanted = np.array([[instances.get(label, 0)] for label in range(int(number))], np.int64).reshape(-1, 1)
    return mean(Ranked(groups, hits, np.zeros_like(hits), np.zeros_like(groups), wanted).precision())
