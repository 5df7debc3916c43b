"""Synchronised embedding optimisation: which windows of a clip get their own matching and losses (paper Section 3).

A window set is one function ``(num_frames, size) -> frames of each window``, in order; where a config has a ``step``,
it is handed on by name. A new one is a function here and its line in ``config/tables.py``.
"""

from __future__ import annotations

from itertools import combinations

from syncvis.config import WINDOWS
from syncvis.references import load
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


def strided(num_frames: int, size: int, step: int) -> list[Frames]:
    """A run of ``size`` frames every ``step`` frames; the last one ends with the clip, so that each frame is in one
    if the step is no larger than the size."""
    last = num_frames - size
    return [tuple(range(start, start + size)) for start in [*range(0, last, step), last]]


def subclip_windows(
    num_frames: int, size: int, kind: str, weights: str, factor: float, step: int | None = None
) -> list[Window]:
    """The sub-clips of a clip; none if it has ``size`` frames or fewer.

    Args:
        num_frames: T.
        size: Ts.
        kind: a name in ``config.WINDOWS``, or ``module:function``.
        weights: "uniform", or "edges": a quarter for the first and the last window (released code, model line 260).
        factor: multiplies every weight.
        step: for the window sets that have one.

    Raises:
        ValueError: The window set gives a window twice, an empty one, or frames that are not of the clip, in order.
    """
    if num_frames <= size:
        return []
    found = load(kind, WINDOWS)(num_frames, size, **({} if step is None else {"step": step}))
    frame_sets: list[Frames] = [tuple(frames) for frames in found]
    for i, frames in enumerate(frame_sets):
        if not frames or frames in frame_sets[:i] or list(frames) != sorted(set(frames) & set(range(num_frames))):
            problem = f"not new and ascending ones of {num_frames} frames from 0"
            raise ValueError(f"the window set {kind} gave frames {frames}, {problem}")
    last = len(frame_sets) - 1
    edge = 0.25 if weights == "edges" else 1.0
    return [
        Window("subclip" + "-".join(map(str, frames)), frames, factor * (edge if i in (0, last) else 1.0))
        for i, frames in enumerate(frame_sets)
    ]
