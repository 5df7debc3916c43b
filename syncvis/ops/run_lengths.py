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
        stops: (P, 2) in pixels from the first mask's begin: where each run of zeros ends, and the run of ones behind
            it; int32 if they fit. Each mask starts with zeros; the last run of ones may be empty.
        first: (N + 1,) the place of the first pair of each mask, and P.
        areas: (N,) pixels of ones.
    """

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
        return RunPairs(np.zeros((0, 2), np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64))
    stops = np.cumsum(list(map(len, counts)))
    more = _check_text(_encode(counts), stops)
    followed = _steps(np.searchsorted(more, stops))  # characters of each mask that are not the last of their run
    number = _steps(stops) - followed
    odd = number % 2
    padded = [text + "0" if pad else text for text, pad in zip(counts, odd.tolist(), strict=True)]
    pairs = _parse_deltas(_encode(padded), more + np.repeat(np.cumsum(odd) - odd, followed))
    first = np.zeros(len(counts) + 1, np.int64)
    np.cumsum((number + odd) // 2, out=first[1:])
    lengths = _undo_deltas(pairs, first)
    lengths[first[1:][odd == 1] - 1, 1] = 0
    return _pairs(lengths, first, pixels)


def pairs_of(runs: Sequence[NDArray[np.integer]], pixels: int) -> RunPairs:
    """The same of run lengths, zeros first; raises DamagedRunsError likewise."""
    padded = [np.append(lengths, 0) if len(lengths) % 2 else np.asarray(lengths) for lengths in runs]
    first = np.cumsum([0, *(len(lengths) // 2 for lengths in padded)])
    return _pairs(np.concatenate(padded).reshape(-1, 2), first, pixels)


def _pairs(lengths: NDArray[np.integer], first: Ints, pixels: int) -> RunPairs:
    if lengths.min() < 0:
        raise DamagedRunsError("counts has a negative run")
    masks = len(first) - 1
    # No run is over 2**31, so a sum of int32 that does not fit is negative when it first happens.
    small = masks * pixels < 2**31 and lengths.dtype == np.int32
    whole: type[np.signedinteger] = np.int32 if small else np.int64
    stops: Runs = np.cumsum(lengths.astype(whole, copy=False), dtype=whole).reshape(-1, 2)
    if stops.min() < 0 or not (stops[first[1:] - 1, 1] == pixels * np.arange(1, masks + 1)).all():
        raise DamagedRunsError(f"counts does not sum to the {pixels} pixels of its size")
    return RunPairs(stops, first, np.add.reduceat(lengths[:, 1], first[:-1], dtype=np.int64))


def _encode(counts: Sequence[str]) -> bytes:
    try:
        return "".join(counts).encode("ascii")
    except UnicodeEncodeError:
        raise DamagedRunsError(_CHARACTER) from None


def _check_text(text: bytes, stops: Ints) -> Ints:
    """The places of the characters that are not the last of their run, after a check of all characters.

    Args:
        stops: the place behind the last character of each mask.
    """
    if not _steps(stops).all():
        raise DamagedRunsError("counts is empty")
    codes = np.frombuffer(text, np.uint8) - np.uint8(ord("0"))
    if codes.max() > 63:
        raise DamagedRunsError(_CHARACTER)
    if codes[stops - 1].max() > 31:
        raise DamagedRunsError("counts is cut off")
    more = np.flatnonzero(codes > 31)
    if len(more) >= MAX_CHARACTERS and (more[MAX_CHARACTERS - 1 :] - more[: 1 - MAX_CHARACTERS] < MAX_CHARACTERS).any():
        raise DamagedRunsError("counts has a run longer than any mask")
    return more


def _parse_deltas(text: bytes, more: Ints) -> NDArray[np.int32]:
    """(P, 2) the numbers that the characters stand for.

    Args:
        more: the places of the characters that are not the last of their run.
    """
    deltas = np.frombuffer(text.translate(_SIGNED, _MORE), np.int8).astype(np.int32)
    low = (np.frombuffer(text, np.uint8)[more] - np.uint8(ord("0"))) & np.uint8(31)
    run = more - np.arange(len(more))
    # From the last character of a run to its first.
    place = np.flatnonzero(np.diff(run, append=-1))
    while len(place):
        deltas[run[place]] = deltas[run[place]] * 32 + low[place]
        place = place[(place > 0) & (run[place - 1] == run[place])] - 1
    return deltas.reshape(-1, 2)


def _steps(values: Ints) -> Ints:
    """Each value minus the one before it; before the first one stands 0."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps


def _undo_deltas(pairs: NDArray[np.int32], first: Ints) -> NDArray[np.int32]:
    """Run lengths, modulo 2**32 as pycocotools reads them; the first run of zeros is not part of the sums.

    ``pairs`` is changed.
    """
    starts = first[:-1]
    leading = pairs[starts, 0].copy()
    pairs[starts, 0] = 0
    np.cumsum(pairs, axis=0, out=pairs)
    before = pairs[starts - 1]
    before[0] = 0
    both = np.repeat(before.view(np.int64), first[1:] - starts, axis=0)  # as one number: half the time
    pairs -= both.view(np.int32)
    pairs[starts, 0] = leading
    return pairs


# Bit 4 of the last character of a run is its sign.
_SIGNED = bytes(((code - ord("0")) % 32 ^ 16) - 16 & 255 for code in range(256))
_MORE = bytes(range(ord("0") + 32, ord("0") + 64))
