"""Run lengths of many COCO masks at once, checked: what a whole video needs in a few dozen NumPy calls.

Compressed counts hold each run minus the run two before it, five bits a character, low bits first; bit 5 of a character
says that more follow, bit 4 of the last is the sign (maskApi.c, ``rleFrString``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Runs = NDArray[np.signedinteger]

# pycocotools reads at most six characters of five bits a run without overflow, one bit is the sign.
MAX_CHARACTERS = 6
_CHARACTER = "counts has a character outside '0' to 'o'"


class DamagedRunsError(ValueError):
    """Counts that are no mask; :func:`syncvis.ops.masks.runs` on each one says which."""


@dataclass(frozen=True)
class RunPairs:
    """The runs of N masks of one size, one after the other.

    Attributes:
        starts: (P,) the first pixel of each run of ones, counted from the first pixel of the first mask.
        stops: (P,) the pixel behind its last; the last run of a mask may be empty.
        first: (N + 1,) the place of the first pair of each mask, and P.
        areas: (N,) pixels of ones.
    """

    starts: Runs
    stops: Runs
    first: Ints
    areas: Ints


def parse_counts(counts: Sequence[str], pixels: int) -> RunPairs:
    """The runs of compressed counts of masks of ``pixels`` pixels each.

    Raises:
        DamagedRunsError: A character is not of the code, a text is empty or cut off, a run is negative, or runs do not
            sum to ``pixels``.
    """
    if not counts:
        none = np.zeros(0, np.int64)
        return RunPairs(none, none, np.zeros(1, np.int64), none)
    joined = _join(counts)
    text = np.frombuffer(joined, np.uint8)
    lengths = np.fromiter(map(len, counts), np.int64, len(counts))
    if not lengths.all():
        raise DamagedRunsError("counts is empty")
    ends = np.cumsum(lengths + 1) - 1
    more = _check_text(text, ends)
    followed = np.searchsorted(more, ends)
    number = _steps(ends - followed - np.arange(len(ends)))
    odd = number % 2 == 1
    text[ends[~odd]] = _DROPPED
    run = more - np.arange(len(more)) - np.repeat(np.cumsum(~odd) - ~odd, _steps(followed))
    deltas = np.frombuffer(joined.translate(_SIGNED, _MORE), np.int8).astype(np.int32)
    _add_lower_digits(deltas, run, text[more])
    first = np.zeros(len(counts) + 1, np.int64)
    np.cumsum((number + odd) // 2, out=first[1:])
    zeros, ones = _undo_deltas(deltas.reshape(-1, 2), first)
    ones[first[1:][odd] - 1] = 0
    return _pairs(zeros, ones, first, pixels)


def pairs_of(runs: Sequence[NDArray[np.integer]], pixels: int) -> RunPairs:
    """The same of run lengths, zeros first; raises DamagedRunsError likewise."""
    padded = [np.append(lengths, 0) if len(lengths) % 2 else np.asarray(lengths) for lengths in runs]
    first = np.cumsum([0, *(len(lengths) // 2 for lengths in padded)])
    zeros, ones = np.concatenate(padded).reshape(-1, 2).T
    return _pairs(zeros, ones, first, pixels)


def _pairs(zeros: NDArray[np.integer], ones: NDArray[np.integer], first: Ints, pixels: int) -> RunPairs:
    if min(zeros.min(), ones.min()) < 0:
        raise DamagedRunsError("counts has a negative run")
    masks = len(first) - 1
    # No pair is over 2**31, so a sum that does not fit is negative when it first happens.
    whole: type[np.signedinteger] = np.int32 if masks * pixels < 2**31 else np.int64
    fits = max(zeros.max(), ones.max()) <= pixels < 2**30
    covered: Runs = np.cumsum(ones, dtype=whole)
    stops: Runs = np.cumsum(zeros, dtype=whole) + covered
    if not fits or stops.min() < 0 or (stops[first[1:] - 1] != pixels * np.arange(1, masks + 1)).any():
        raise DamagedRunsError(f"counts does not sum to the {pixels} pixels of its size")
    areas = _steps(covered[first[1:] - 1].astype(np.int64))
    return RunPairs((stops - ones).astype(whole, copy=False), stops, first, areas)


def _join(counts: Sequence[str]) -> bytearray:
    """All texts, a "0" behind each."""
    try:
        return bytearray("0".join(counts) + "0", "ascii")
    except UnicodeEncodeError:
        raise DamagedRunsError(_CHARACTER) from None


def _check_text(text: NDArray[np.uint8], ends: Ints) -> Ints:
    """The places of the characters that are not the last of their run, after a check of all characters.

    Args:
        ends: the place behind the last character of each mask.
    """
    if text.min() < ord("0") or text.max() >= ord("0") + 64:
        raise DamagedRunsError(_CHARACTER)
    if text[ends - 1].max() >= _DROPPED:
        raise DamagedRunsError("counts is cut off")
    more = np.flatnonzero(text >= _DROPPED)
    if len(more) >= MAX_CHARACTERS and (more[MAX_CHARACTERS - 1 :] - more[: 1 - MAX_CHARACTERS] < MAX_CHARACTERS).any():
        raise DamagedRunsError("counts has a run longer than any mask")
    return more


def _add_lower_digits(deltas: NDArray[np.int32], run: Ints, characters: NDArray[np.uint8]) -> None:
    """Complete the numbers of more than one character; ``deltas`` has what the last of each stands for.

    Args:
        run: the place of the number that each of ``characters`` belongs to.
    """
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    lengths = np.diff(starts, append=len(run))
    digits = (characters - np.uint8(ord("0"))) % 32
    lower = digits[starts].astype(np.int32)
    longer = np.flatnonzero(lengths > 1)
    for digit in range(1, MAX_CHARACTERS - 1):
        lower[longer] += digits[starts[longer] + digit].astype(np.int32) << 5 * digit
        longer = longer[lengths[longer] > digit + 1]
    of = run[starts]
    deltas[of] = (deltas[of] << (5 * lengths).astype(np.int32)) + lower


def _steps(values: Ints) -> Ints:
    """Each value minus the one before it; before the first one stands 0."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps


def _undo_deltas(deltas: NDArray[np.int32], first: Ints) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Run lengths of zeros and of ones, modulo 2**32; the first run of zeros is not part of the sums.

    Args:
        deltas: (P, 2).
        first: see :class:`RunPairs`.
    """
    starts, number = first[:-1], np.diff(first)
    zeros, ones = deltas[:, 0].copy(), deltas[:, 1].copy()
    leading = zeros[starts]
    zeros[starts] = 0
    for lane in (zeros, ones):
        np.cumsum(lane, out=lane)
        before = lane[starts - 1]
        before[0] = 0
        lane -= np.repeat(before, number)
    zeros[starts] = leading
    return zeros, ones


# The first character that is not the last of its run.
_DROPPED = ord("0") + 32
# Bit 4 of the last character of a run is its sign.
_SIGNED = bytes(((code - ord("0")) % 32 ^ 16) - 16 & 255 for code in range(256))
_MORE = bytes(range(_DROPPED, _DROPPED + 32))
