"""Tracks as run lengths that are read and checked once: no mask is ever decoded to pixels.

A run of ones is cut into vertical strips, each in one column of one frame. Two masks share, in each column, the
overlaps of their strips, so an intersection is a sum of ``min(bottoms) - max(tops)`` over columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from syncvis.errors import DataError
from syncvis.ops import masks
from syncvis.ops.run_lengths import Ints, RunPairs, pairs_of, parse_counts
from syncvis.predictions import RLE

Size = tuple[int, int]
Place = TypeVar("Place")

# What is parsed at a time: its arrays fit the cache of a core.
_CHUNK_CHARACTERS = 300_000


@dataclass(frozen=True, eq=False)
class Tube(Sequence[RLE | None]):
    """One track of T frames; reads like a tuple of its masks, None where there is no pixel.

    Attributes:
        size: height and width of the frames; (0, 0) of a track without any mask.
        x: (S,) the column of each strip in its frame, not decreasing within a frame; uint16 or uint32.
        edges: (S, 2) the row behind its last, and minus its first row; int16 or int32. The smaller of two such numbers
            is that of the overlap.
        first: (T + 1,) the first strip of each frame, and S; a frame has at least one strip, perhaps without a pixel.
        areas: (T,) pixels.
        spans: (T, 2) the first column with a pixel and one behind the last, or further outside.
    """

    size: Size
    x: NDArray[np.unsignedinteger]
    edges: NDArray[np.signedinteger]
    first: Ints
    areas: Ints
    spans: Ints

    def __len__(self) -> int:
        return len(self.areas)

    @overload
    def __getitem__(self, index: int) -> RLE | None: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RLE | None, ...]: ...
    def __getitem__(self, index: int | slice) -> RLE | tuple[RLE | None, ...] | None:
        if isinstance(index, slice):
            return tuple(self[t] for t in range(*index.indices(len(self))))
        if not self.areas[index]:
            return None
        strips = slice(*self.first[range(len(self))[index] :][:2])
        height, width = self.size
        stops = (self.x[strips].astype(np.int64) * height)[:, None] + self.edges[strips, ::-1] * (-1, 1)
        lengths = np.diff(np.concatenate([[0], stops.ravel(), [height * width]]))
        return masks.from_runs(lengths, height, width)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    @property
    def columns(self) -> Ints:
        """(S,) column of each strip, counted from the first frame: ``t * W + x``."""
        columns = np.repeat(np.arange(len(self.areas)) * self.size[1], self.first[1:] - self.first[:-1])
        columns += self.x
        return columns

    @property
    def boxes(self) -> Ints:
        """(T, 4) left, top, right, bottom of each mask, right and bottom behind the last pixel; 0 for an empty one."""
        some, starts, large = self.edges.sum(axis=1) > 0, self.first[:-1], np.iinfo(np.int64).max
        left = np.minimum.reduceat(np.where(some, self.x.astype(np.int64), large), starts)
        right = np.maximum.reduceat(np.where(some, self.x + np.int64(1), 0), starts)
        bottom, top = np.maximum.reduceat(
            np.where(some[:, None], self.edges.astype(np.int64), -large), starts, axis=0
        ).T
        return np.where(self.areas[:, None] > 0, np.stack([left, -top, right, bottom], axis=1), 0)


def _equal(mask: RLE | None, other: Any) -> bool:
    return mask == other


@dataclass(frozen=True)
class Job(Generic[Place]):
    """Masks of a track to read, one per frame, and where they belong."""

    place: Place
    frames: Sequence[RLE | None]
    size: Size


def read_tubes(
    jobs: Iterable[Job[Place]], damaged: Callable[[Job[Place]], Tube | None]
) -> Iterator[tuple[Place, Tube]]:
    """Read and check the masks of all tracks, those of one size together; the order within a size stays.

    Args:
        damaged: takes what is not of the usual form, that is compressed counts and the size of the job, and gives
            the tube, or raises, or gives None to leave the track out.
    """
    waiting: defaultdict[Size, list[Job[Place]]] = defaultdict(list)
    characters: defaultdict[Size, int] = defaultdict(int)
    for job in jobs:
        waiting[job.size].append(job)
        characters[job.size] += _characters(job.frames)
        if characters[job.size] > _CHUNK_CHARACTERS:
            characters[job.size] = 0
            yield from _read_alike(waiting.pop(job.size), damaged)
    for rest in waiting.values():
        yield from _read_alike(rest, damaged)


def _characters(frames: Sequence[Any]) -> int:
    """About how many there are, as far as every eighth frame tells."""
    sizes = [len(c) for r in frames[::8] if isinstance(r, dict) and isinstance(c := r.get("counts"), str | list)]
    return len(frames) * max(sizes, default=1)


def _read_alike(jobs: list[Job[Place]], damaged: Callable[[Job[Place]], Tube | None]) -> Iterator[tuple[Place, Tube]]:
    places = [job.place for job in jobs]
    try:
        yield from zip(places, parse(jobs), strict=True)
    except (ValueError, TypeError, KeyError):  # one by one, to find which
        for job in jobs:
            try:
                tube: Tube | None = parse([job])[0]
            except (ValueError, TypeError, KeyError):
                tube = damaged(job)
            if tube is not None:
                yield job.place, tube


def parse(jobs: Sequence[Job[Any]]) -> list[Tube]:
    """Tubes of masks of one size with compressed counts; ValueError, TypeError or KeyError if one is damaged."""
    height, width = jobs[0].size
    if not height:
        return [without_mask(len(job.frames)) for job in jobs]
    size, empty = [height, width], _empty(height, width)
    rles: list[Any] = [rle or empty for job in jobs for rle in job.frames]
    counts = [rle["counts"] for rle in rles if rle["size"] == size]
    if len(counts) < len(rles):
        raise ValueError("a mask has another size")
    return cut(parse_counts(counts, height * width), [len(job.frames) for job in jobs], jobs[0].size)


@lru_cache
def _empty(height: int, width: int) -> RLE:
    return masks.from_runs(np.array([height * width]), height, width)


def tube_of(frames: Sequence[RLE | None], size: Size, where: Callable[[int], str]) -> Tube:
    """The same of one track, mask by mask and with counts of any form.

    Args:
        where: what errors call the mask of a frame.

    Raises:
        DataError: A mask is damaged or of another size.
    """
    pixels = size[0] * size[1]
    runs = [masks.sized_runs(rle, *size, where(t)) if rle else np.array([pixels]) for t, rle in enumerate(frames)]
    return cut(pairs_of(runs, pixels), [len(frames)], size)[0]


def without_mask(frames: int) -> Tube:
    """A track of which no frame has a mask."""
    x, edges, areas = np.zeros(frames, np.uint16), np.zeros((frames, 2), np.int16), np.zeros((frames, 3), np.int64)
    return Tube((0, 0), x, edges, np.arange(frames + 1), areas[:, 0], areas[:, 1:])


def cut(pairs: RunPairs, lengths: Sequence[int], size: Size) -> list[Tube]:
    """The tubes of tracks of ``lengths`` frames each, from the runs of all their frames."""
    height, width = size
    start, stop = (np.ascontiguousarray(column) for column in pairs.stops.T)  # division needs them side by side
    column = start // height
    shift = column * height
    top, bottom, first = start - shift, stop - shift, pairs.first
    if (bottom > height).any():
        column, top, bottom, first = _cut_at_columns(column, top, bottom, first, height)
    column -= np.repeat(np.arange(len(pairs.areas), dtype=column.dtype) * width, np.diff(first))
    x = column.astype(np.uint16 if width < 2**16 else np.uint32)
    edges = np.empty((len(x), 2), np.int16 if height < 2**15 else np.int32)
    edges[:, 0], edges[:, 1] = bottom, -top
    bounds = np.cumsum([0, *lengths]).tolist()
    parts = zip(bounds[:-1], bounds[1:], first[bounds[:-1]].tolist(), first[bounds[1:]].tolist(), strict=True)
    spans = _spans(x, bottom > top, first)
    return [Tube(size, x[a:b], edges[a:b], first[i : j + 1] - a, pairs.areas[i:j], spans[i:j]) for i, j, a, b in parts]


def _spans(x: NDArray[np.unsignedinteger], some: NDArray[np.bool_], first: Ints) -> Ints:
    """The last run of ones has no pixel as a rule, and stands behind the last column."""
    last = first[1:] - 1
    last -= ~some[last] & (last > first[:-1])
    return np.stack([x[first[:-1]], x[last] + np.int64(1)], axis=1)


def _cut_at_columns(
    column: NDArray[Any], top: NDArray[Any], bottom: NDArray[Any], first: Ints, height: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Ints]:
    """Cut runs that go on in the next column; keeps one, perhaps empty, strip for a run without pixels."""
    number = np.maximum((bottom + (height - 1)) // height, 1)
    begins = np.concatenate([[0], np.cumsum(number)])
    run = np.repeat(np.arange(len(column)), number)
    later = (np.arange(len(run)) - begins[run]).astype(column.dtype)
    top = np.where(later == 0, top[run], 0)
    bottom = np.minimum(bottom[run] - later * height, height)
    return column[run] + later, top, bottom, begins[first]


def check_size(tube: Tube, size: Size, where: Callable[[int], str]) -> None:
    """DataError if the masks of a tube are not of this size, as for masks one by one."""
    if tube.size not in (size, (0, 0)):
        t = int(np.argmax(tube.areas > 0))
        found = RLE(size=list(tube.size), counts=_empty(*tube.size)["counts"])
        masks.sized_runs(tube[t] or found, *size, where(t))
        raise DataError("masks have another size", file=where(t), fix="give masks and video one size")
