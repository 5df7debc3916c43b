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

# pycocotools reads at most six characters of five bits a run without overflow, one bit is the sign.
MAX_CHARACTERS = 6
_CHARACTER = "counts has a character outside '0' to 'o'"


class DamagedRunsError(ValueError):
    """Counts that are no mask; :func:`syncvis.ops.masks.runs` on each one says which."""


@dataclass(frozen=True)
class RunPairs:
    """The runs of N masks of one size, one after the other.

    Attributes:
        stops: (P, 2) int64, in pixels from the first mask's begin: where each run of zeros ends, and the run of ones
            behind it. Each mask starts with zeros; the last run of ones may be empty.
        first: (N + 1,) the place of the first pair of each mask, and P.
        areas: (N,) pixels of ones.
    """

    stops: Ints
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
    text_stops = np.cumsum([len(text) for text in counts])
    try:
        text = "".join(counts).encode("ascii")
    except UnicodeEncodeError:
        raise DamagedRunsError(_CHARACTER) from None
    deltas, run_stops = _parse_deltas(text, text_stops)
    number = np.diff(run_stops, prepend=0)
    first = np.zeros(len(counts) + 1, np.int64)
    np.cumsum((number + 1) // 2, out=first[1:])
    lengths = _undo_deltas(_pad(deltas, run_stops, number), first)
    lengths[first[1:][number % 2 == 1] - 1, 1] = 0
    return _pairs(lengths, first, pixels)


def pairs_of(runs: Sequence[NDArray[np.integer]], pixels: int) -> RunPairs:
    """The same of run lengths, zeros first; raises DamagedRunsError likewise."""
    padded = [np.append(lengths, 0) if len(lengths) % 2 else np.asarray(lengths) for lengths in runs]
    first = np.cumsum([0, *(len(lengths) // 2 for lengths in padded)])
    return _pairs(np.concatenate(padded).reshape(-1, 2), first, pixels)


def _pairs(lengths: NDArray[np.integer], first: Ints, pixels: int) -> RunPairs:
    if lengths.min() < 0:
        raise DamagedRunsError("counts has a negative run")
    stops = np.cumsum(lengths, dtype=np.int64).reshape(-1, 2)
    if not (stops[first[1:] - 1, 1] == pixels * np.arange(1, len(first))).all():
        raise DamagedRunsError(f"counts does not sum to the {pixels} pixels of its size")
    return RunPairs(stops, first, np.add.reduceat(lengths[:, 1], first[:-1], dtype=np.int64))


def _parse_deltas(text: bytes, stops: Ints) -> tuple[NDArray[np.int32], Ints]:
    """The numbers of all texts and, for each text, the place behind its last one."""
    codes = np.frombuffer(text, np.uint8) - np.uint8(ord("0"))
    lengths = np.diff(stops, prepend=0)
    if not lengths.all():
        raise DamagedRunsError("counts is empty")
    if codes.max() > 63:
        raise DamagedRunsError(_CHARACTER)
    ends = codes < 32
    if not ends[stops - 1].all():
        raise DamagedRunsError("counts is cut off")
    last = np.flatnonzero(ends)
    signed = codes[last].view(np.int8)
    deltas = ((signed ^ 16) - 16).astype(np.int32)
    if len(last) < len(codes):
        _add_low_bits(deltas, codes, last)
    return deltas, np.searchsorted(last, stops - 1) + 1


def _add_low_bits(deltas: NDArray[np.int32], codes: NDArray[np.uint8], last: Ints) -> None:
    """Give numbers of several characters the characters before the last, in place."""
    characters = np.diff(last, prepend=-1)
    long = np.flatnonzero(characters > 1)
    more = characters[long] - 1
    if more.max() >= MAX_CHARACTERS:
        raise DamagedRunsError("counts has a run longer than any mask")
    value = deltas[long] << 5 * more.astype(np.int32)
    start = last[long] - more
    for place in range(int(more.max())):
        within = place < more
        value[within] |= (codes[start[within] + place] & 31).astype(np.int32) << 5 * place
    deltas[long] = value


def _pad(deltas: NDArray[np.int32], run_stops: Ints, number: Ints) -> NDArray[np.int32]:
    """(P, 2): an empty run of ones behind the masks that end with zeros."""
    odd = number % 2
    if not odd.any():
        return deltas.reshape(-1, 2)
    padded = np.zeros(len(deltas) + int(odd.sum()), np.int32)
    keep = np.ones(len(padded), bool)
    ends = run_stops + np.cumsum(odd)
    keep[ends[odd == 1] - 1] = False
    padded[keep] = deltas
    return padded.reshape(-1, 2)


def _undo_deltas(pairs: NDArray[np.int32], first: Ints) -> NDArray[np.int32]:
    """Run lengths, modulo 2**32 as pycocotools reads them; the first run of zeros is not part of the sums.

    ``pairs`` is changed.
    """
    starts = first[:-1]
    leading = pairs[starts, 0].copy()
    pairs[starts, 0] = 0
    sums = np.cumsum(pairs, axis=0, dtype=np.int32)
    base = np.zeros((len(starts), 2), np.int32)
    base[1:] = sums[starts[1:] - 1]
    sums -= np.repeat(base, np.diff(first), axis=0)
    sums[starts, 0] = leading
    return sums
