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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncvis.evaluation.matching import Flags, Floats, Matches, curve
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


@dataclass(frozen=True)
class Judged:
    """One class in one video: its matches, and the place of their tracks and instances in the video."""

    matches: Matches
    tracks: Ints
    instances: Ints


def faults(video_id: int, overlap: Overlap, labels: Ints, crowds: Flags, judged: Mapping[int, Judged]) -> list[Fault]:
    """Of one video.

    Args:
        overlap: of all pairs, whatever their classes.
        labels: (G,) classes of the annotations.
        crowds: (G,) annotations that are left out.
        judged: by class.
    """
    ious = np.where(crowds, 0.0, overlap.tube_ious())
    found = {int(j.instances[g]) for j in judged.values() for g in j.matches.found[0] if g >= 0}
    result: list[Fault] = []
    near: set[int] = set()
    for label, one in judged.items():
        for d in np.flatnonzero(~one.matches.hits[0, 0] & ~one.matches.ignored[0, 0]):
            kind, g = _kind(one.tracks[d], ious[one.tracks[d]], labels == label, overlap)
            instance = (video_id, g) if g is not None and g not in found else None
            near |= set() if g is None else {g}
            result.append(
                Fault(kind, label, float(one.matches.scores[d]), instance, -1 if g is None else int(labels[g]))
            )
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


def gains(found: Sequence[Fault], matches: Mapping[int, Sequence[Matches]]) -> dict[str, dict[str, float]]:
    """Of each kind the number and the AP50, in percent, that would be gained without it.

    Args:
        found: faults of all videos.
        matches: by class, of all videos.
    """
    now = _ap50(found, matches, "")
    return {
        kind: {
            "count": float(sum(fault.kind == kind for fault in found)),
            "AP50": 100 * (_ap50(found, matches, kind) - now),
        }
        for kind in KINDS
    }


def _ap50(found: Sequence[Fault], matches: Mapping[int, Sequence[Matches]], mended: str) -> float:
    """Mean over the classes as if there were no errors of the kind ``mended``."""
    wrong: dict[int, list[float]] = {label: [] for label in matches}
    right = {label: [_right(m) for m in of_label] for label, of_label in matches.items()}
    instances = {label: int(sum(m.instances[0] for m in of_label)) for label, of_label in matches.items()}
    done: set[Instance] = set()
    for fault in sorted(found, key=lambda fault: -fault.score):
        if fault.kind == "miss":
            instances[fault.label] -= mended == "miss"
        elif fault.kind != mended:
            wrong[fault.label].append(fault.score)
        elif fault.instance is not None and fault.instance not in done:
            done.add(fault.instance)
            right[fault.wanted].append(np.array([fault.score]))
    return mean(np.array([_ap(np.concatenate([*right[k], []]), wrong[k], instances[k]) for k in matches]))


def _right(matches: Matches) -> Floats:
    return matches.scores[matches.hits[0, 0] & ~matches.ignored[0, 0]]


def _ap(right: Floats, wrong: Sequence[float], instances: int) -> float:
    scores = np.concatenate([right, wrong])
    hits = (np.arange(len(scores)) < len(right))[None, None]
    one = Matches(scores, hits, np.zeros_like(hits), np.array([instances]), np.zeros((1, 0), np.int64))
    return mean(curve([one], len(scores)).precision)
