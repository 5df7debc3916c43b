"""Synchronised embedding optimisation: which windows of a clip get their own matching and losses (paper Section 3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from syncvis.structures import Frames, Window


def neighbours(num_frames: int, size: int) -> list[Frames]:
    """Every run of ``size`` frames: (0, 1), (1, 2), ... for size 2, as in the released code."""
    return [tuple(range(start, start + size)) for start in range(num_frames - size + 1)]


def all_pairs(num_frames: int, size: int) -> list[Frames]:
    """Every choice of ``size`` frames; all pairs for size 2, as drawn in the paper's figure."""
    return list(combinations(range(num_frames), size))


def chunks(num_frames: int, size: int) -> list[Frames]:
    """Consecutive runs without overlap; the last one may be shorter."""
    return [tuple(range(start, min(start + size, num_frames))) for start in range(0, num_frames, size)]


WINDOW_SETS: dict[str, Callable[[int, int], list[Frames]]] = {
    "neighbours": neighbours,
    "all_pairs": all_pairs,
    "chunks": chunks,
}


def subclip_windows(num_frames: int, size: int, kind: str, weights: str, factor: float) -> list[Window]:
    """The sub-clips of a clip; none if it has ``size`` frames or fewer.

    Args:
        num_frames: T.
        size: Ts.
        kind: a name in WINDOW_SETS.
        weights: "uniform", or "edges": a quarter for the first and the last window (released code, model line 260).
        factor: multiplies every weight.
    """
    if num_frames <= size:
        return []
    frame_sets = WINDOW_SETS[kind](num_frames, size)
    last = len(frame_sets) - 1
    edge = 0.25 if weights == "edges" else 1.0
    return [
        Window("subclip" + "-".join(map(str, frames)), frames, factor * (edge if i in (0, last) else 1.0))
        for i, frames in enumerate(frame_sets)
    ]
