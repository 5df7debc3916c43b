"""Overlaps of the tracks of one video, frame by frame, on run lengths: no mask is ever decoded to pixels.

A run of ones is cut into vertical strips, each in one column of one frame. Two masks share, in each column, the
overlaps of their strips, so an intersection is a sum of ``min(bottoms) - max(tops)`` over columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncvis.ops.run_lengths import Ints, RunPairs

Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Strips:
    """The ones of N tracks of T frames, H x W each.

    Attributes:
        column: (S,) column of each strip, counted from the first frame of its track: ``t * W + x``; not decreasing
            within a track.
        top, bottom: (S,) its first row, and the one behind its last.
        first: (N * T + 1,) the first strip of each frame of each track, and S.
        areas: (N, T) pixels.
    """

    column: Ints
    top: Counts
    bottom: Counts
    first: Ints
    areas: Ints

    def __len__(self) -> int:
        return len(self.areas)

    def select(self, rows: Ints) -> Strips:
        """Some of the tracks, in increasing order; neighbours are not copied."""
        frames = self.areas.shape[1]
        if rows[-1] - rows[0] + 1 == len(rows):
            return self._tracks(rows[0], rows[-1] + 1)
        return join([self._tracks(row, row + 1) for row in rows], frames)

    def _tracks(self, start: int, stop: int) -> Strips:
        frames = self.areas.shape[1]
        bounds = self.first[start * frames : stop * frames + 1]
        part = slice(bounds[0], bounds[-1])
        first = bounds - bounds[0]
        return Strips(self.column[part], self.top[part], self.bottom[part], first, self.areas[start:stop])


def cut(pairs: RunPairs, frames: int, height: int, width: int) -> Strips:
    """Strips of N tracks from the runs of their N * T frames of ``height`` x ``width`` pixels, track by track."""
    total = len(pairs.areas) * height * width
    start, stop = (column.astype(_whole(total)) for column in pairs.stops.T)  # division needs them side by side
    column = start // height
    shift = column * height
    top, bottom = start - shift, stop - shift
    first = pairs.first
    if (bottom > height).any():
        column, top, bottom, first = _cut_at_columns(column, top, bottom, first, height)
    of_track = np.diff(first[::frames])
    if len(of_track) > 1:
        column -= np.repeat(np.arange(len(of_track), dtype=column.dtype) * (frames * width), of_track)
    return Strips(column.astype(np.intp), top, bottom, first, pairs.areas.reshape(-1, frames))


def _whole(largest: int) -> type[np.int32]:
    """The integers that hold numbers up to ``largest``."""
    return np.int32 if largest < 2**31 else np.int64  # type: ignore[return-value]


def _cut_at_columns(
    column: Counts, top: Counts, bottom: Counts, first: Ints, height: int
) -> tuple[Counts, Counts, Counts, Ints]:
    """Cut runs that go on in the next column; keeps one, perhaps empty, strip for a run without pixels."""
    number = np.maximum((bottom + (height - 1)) // height, 1)
    begins = np.concatenate([[0], np.cumsum(number)])
    run = np.repeat(np.arange(len(column)), number)
    later = (np.arange(len(run)) - begins[run]).astype(column.dtype)
    top = np.where(later == 0, top[run], 0)
    bottom = np.minimum(bottom[run] - later * height, height)
    return column[run] + later, top, bottom, begins[first]


def intersections(found: Strips, truth: Strips, columns: int) -> Ints:
    """(F, T) pixels that each track of ``found`` shares with the only one of ``truth`` in each frame.

    Args:
        columns: T * W.
    """
    shared = np.zeros(found.areas.shape, np.int64)
    for top, bottom in _layers(truth, columns):
        overlap = np.minimum(found.bottom, bottom.take(found.column))
        overlap -= np.maximum(found.top, top.take(found.column))
        np.maximum(overlap, 0, out=overlap)
        # Each frame has at least one strip.
        shared += np.add.reduceat(overlap, found.first[:-1], dtype=np.int64).reshape(shared.shape)
    return shared


def _layers(track: Strips, columns: int) -> Iterator[tuple[Counts, Counts]]:
    """Top and bottom of the first, second ... strip in each of the columns; both 0 where there is none."""
    there = track.bottom > track.top
    column, tops, bottoms = track.column[there], track.top[there], track.bottom[there]
    layers = [slice(None)] if _all_differ(column) else _ranked(column)
    for chosen in layers:
        # A run without pixels may stand behind the last column.
        top, bottom = np.zeros(columns + 1, tops.dtype), np.zeros(columns + 1, tops.dtype)
        top[column[chosen]] = tops[chosen]
        bottom[column[chosen]] = bottoms[chosen]
        yield top, bottom


def _all_differ(column: Ints) -> bool:
    return not (column[1:] == column[:-1]).any()


def _ranked(column: Ints) -> Iterator[NDArray[np.bool_]]:
    """Which strips are the first, second ... of their column; columns do not decrease."""
    new = np.flatnonzero(np.diff(column, prepend=-1))
    rank = np.arange(len(column)) - np.repeat(new, np.diff(new, append=len(column)))
    return (rank == layer for layer in range(int(rank.max()) + 1))


def tube_ious(shared: Ints, found: Ints, truth: Ints) -> NDArray[np.float64]:
    """(F, G) intersection over union of tubes, 0 where both are empty.

    Args:
        shared: (F, G) pixels.
        found: (F,) pixels of the tracks.
        truth: (G,) likewise.
    """
    union = found[:, None] + truth[None, :] - shared
    return shared / np.maximum(union, 1)


def join(parts: Sequence[Strips], frames: int) -> Strips:
    """The tracks of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int32)
    sizes = np.cumsum([0, *(len(part.column) for part in parts)])
    first = [part.first[:-1] + size for part, size in zip(parts, sizes[:-1], strict=True)]
    return Strips(
        np.concatenate([none, *(part.column for part in parts)]),
        np.concatenate([none, *(part.top for part in parts)]),
        np.concatenate([none, *(part.bottom for part in parts)]),
        np.concatenate([*first, sizes[-1:]]).astype(np.int64),
        np.concatenate([np.zeros((0, frames), np.int64), *(part.areas for part in parts)]),
    )
