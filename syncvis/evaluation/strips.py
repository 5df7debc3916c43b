"""Pixels that masks have in common, many pairs at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from syncvis.evaluation.tubes import Sheet, numbers, ranges
from syncvis.ops.run_lengths import Ints

# Pairs of strips that are compared at a time: their arrays fit the cache of a core.
_CHUNK = 2**17


def in_common(found: Sheet, truth: Sheet, i: Ints, j: Ints) -> Ints:
    """(P,) the pixels that frames ``i`` of one sheet share with frames ``j`` of another."""
    if (0, 0) in (found.size, truth.size):
        return np.zeros(len(i), np.int64)
    total = np.zeros(len(i), np.int64)
    (left, right), (other_left, other_right) = found.spans[:, i], truth.spans[:, j]
    touching = np.flatnonzero((left < other_right) & (other_left < right))
    i, j = i[touching], j[touching]
    own, other = (np.stack([s.first[f], s.first[f + 1] - s.first[f]]) for s, f in ((found, i), (truth, j)))
    for part in _parts(own[1] * other[1]):
        # All pairs of a block of one and a block of the other frame.
        number = np.repeat(other[1, part], own[1, part])
        a = np.repeat(ranges(*own[:, part]), number)
        b = ranges(np.repeat(other[0, part], own[1, part]), number)
        pair = np.repeat(touching[part], (own[1] * other[1])[part])
        total += np.bincount(pair, _blocks(found, a, truth, b), len(total)).astype(np.int64)
    return total


def _blocks(found: Sheet, a: Ints, truth: Sheet, b: Ints) -> Ints:
    """(P,) what blocks ``a`` of one sheet share with blocks ``b`` of another."""
    x, y = found.x[a], truth.x[b]
    begin = np.maximum(x, y)
    number = np.minimum(x + found.number[a], y + truth.number[b]) - begin
    some = np.flatnonzero(number > 0)
    places = found.place[a] + begin - x, truth.place[b] + begin - y
    total = np.zeros(len(a), np.int64)
    total[some] = _overlaps(found, places[0][some], truth, places[1][some], number[some])
    return total


def _overlaps(found: Sheet, i: Ints, truth: Sheet, j: Ints, number: Ints) -> Ints:
    """(P,) what ``number`` strips from ``i`` on, at least one, share with those from ``j`` on."""
    total = np.zeros(len(i), np.int64)
    for part in _parts(number):
        some, step = number[part], j[part] - i[part]
        place = ranges(i[part], some)
        own = found.edges.take(place)
        place += np.repeat(step, some)
        both = numbers(own)
        np.minimum(both, numbers(truth.edges.take(place)), out=both)
        common = _sums(own)
        np.maximum(common, np.zeros_like(common), out=common)  # with a number instead of zeros: five times as long
        total[part] = np.add.reduceat(common, np.cumsum(some) - some, dtype=np.int64)
    return total


def _sums(edges: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """(C,) the sum of the two numbers of each strip, which are the halves of one; ``edges`` is changed.

    One half is added to the other by a multiplication: side by side they cannot be added as fast.
    """
    half = edges.dtype.type(4 * edges.itemsize)
    edges *= edges.dtype.type((1 << int(half)) + 1)
    edges >>= half
    return edges


def _parts(number: Ints) -> Iterator[slice]:
    """Slices of about :data:`_CHUNK` in all, of those that have any."""
    end = np.cumsum(number)
    bounds = [0]
    while bounds[-1] < len(end):
        done = end[bounds[-1] - 1] if bounds[-1] else 0
        if done == end[-1]:
            return
        bounds.append(max(int(np.searchsorted(end, done + _CHUNK, side="right")), bounds[-1] + 1))
        yield slice(bounds[-2], bounds[-1])
