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

from syncvis.ops import masks
from syncvis.ops.run_lengths import DamagedRunsError, Ints, RunPairs, pairs_of, parse_counts
from syncvis.predictions import RLE

Size = tuple[int, int]
Place = TypeVar("Place")

# What is parsed at a time: few enough that the arrays stay near the core, many enough to be compared together.
_CHUNK_CHARACTERS = 600_000
# Columns without a strip that a block may have side by side.
_MAX_GAP = 8


@dataclass(frozen=True, eq=False)
class Sheet:
    """The strips of F frames of one size, in blocks: a block has one strip, perhaps empty, in each of its columns.

    Attributes:
        size: height and width of the frames; (0, 0) if none has a mask.
        edges: (C,) the row behind the last of a strip, and minus its first row, as one number; see :func:`numbers`.
        areas: (F,) pixels.
        spans: (2, F) the first column of a frame with a pixel and one behind the last, or further outside.
        first: (F + 1,) the first of the blocks of each frame, and B.
        x: (B,) the first column of a block.
        place: (B,) where its strips begin in ``edges``.
        number: (B,) of its columns.
    """

    size: Size
    edges: NDArray[np.signedinteger]
    areas: Ints
    spans: Ints
    first: Ints
    x: Ints
    place: Ints
    number: Ints

    def strips(self, frame: int) -> tuple[Ints, Ints, Ints]:
        """Column, first row and the row behind the last of each strip of a frame, from left to right."""
        blocks = slice(self.first[frame], self.first[frame + 1])
        x = ranges(self.x[blocks], self.number[blocks])
        bottom, top = numbers(self.edges[ranges(self.place[blocks], self.number[blocks])]).T.astype(np.int64)
        order = np.lexsort((-top, x))
        order = order[(bottom + top)[order] > 0]
        return x[order], -top[order], bottom[order]


def _packed(top: NDArray[Any], bottom: NDArray[Any], height: int) -> NDArray[np.signedinteger]:
    """The inverse of :func:`numbers`."""
    if height < 2**15:
        return bottom.astype(np.int32, copy=False) - (top.astype(np.int32, copy=False) << np.int32(16))
    return bottom.astype(np.int64, copy=False) - (top.astype(np.int64, copy=False) << np.int64(32))


def ranges(start: Ints, number: Ints) -> Ints:
    """``start, start + 1 ...``, ``number`` each, one after the other."""
    places = np.repeat(start - np.cumsum(number) + number, number)
    places += np.arange(len(places))
    return places


def numbers(edges: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """(C, 2) the row behind the last of each strip, and minus its first; the smaller ones are those of an overlap."""
    half: type[np.signedinteger] = np.int16 if edges.itemsize == 4 else np.int32
    return edges.view(half).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Tube(Sequence[RLE | None]):
    """A track: some frames of a sheet; reads like a tuple of masks, None where there is no pixel."""

    sheet: Sheet
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> RLE | None: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RLE | None, ...]: ...
    def __getitem__(self, index: int | slice) -> RLE | tuple[RLE | None, ...] | None:
        if isinstance(index, slice):
            return tuple(self[t] for t in range(*index.indices(self.length)))
        frame = self.start + range(self.length)[index]
        if not self.sheet.areas[frame]:
            return None
        height, width = self.sheet.size
        x, top, bottom = self.sheet.strips(frame)
        stops = np.stack([x * height + top, x * height + bottom], axis=1).ravel()
        return masks.from_runs(np.diff(np.concatenate([[0], stops, [height * width]])), height, width)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    @property
    def frames(self) -> slice:
        """Of the sheet."""
        return slice(self.start, self.start + self.length)

    @property
    def boxes(self) -> Ints:
        """(T, 4) left, top, right, bottom of each mask, right and bottom behind the last pixel; 0 for an empty one."""
        found = np.zeros((self.length, 4), np.int64)
        for t in np.flatnonzero(self.sheet.areas[self.frames]).tolist():
            x, top, bottom = self.sheet.strips(self.start + t)
            found[t] = x[0], top.min(), x[-1] + 1, bottom.max()
        return found


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
    """Read and check the masks of all tracks, those of one size together, in any order.

    Args:
        damaged: takes what is not of the usual form, that is compressed counts and the size of the job, and gives
            the tube, or raises, or gives None to leave the track out.
    """
    waiting: defaultdict[Size, list[tuple[Place, list[str]]]] = defaultdict(list)
    characters: defaultdict[Size, int] = defaultdict(int)
    for job in jobs:
        counts = _counts(job)
        if counts is None:
            if (tube := damaged(job)) is not None:
                yield job.place, tube
            continue
        waiting[job.size].append((job.place, counts))
        characters[job.size] += sum(map(len, counts))
        if characters[job.size] > _CHUNK_CHARACTERS:
            characters[job.size] = 0
            yield from _read_alike(waiting.pop(job.size), job.size, damaged)
    for size, rest in waiting.items():
        yield from _read_alike(rest, size, damaged)


def _counts(job: Job[Any]) -> list[str] | None:
    """The compressed counts of all frames; None if a mask is of another form or size."""
    size, empty = list(job.size), _empty(*job.size)
    try:
        rles = [rle or empty for rle in job.frames]
        counts = [rle["counts"] for rle in rles if rle["size"] == size]
    except (TypeError, KeyError):
        return None
    return counts if len(counts) == len(rles) and set(map(type, counts)) <= {str} else None


def _read_alike(
    tracks: list[tuple[Place, list[str]]], size: Size, damaged: Callable[[Job[Place]], Tube | None]
) -> Iterator[tuple[Place, Tube]]:
    try:
        tubes = _parse([counts for _, counts in tracks], size)
    except DamagedRunsError:  # one by one, to find which
        for place, counts in tracks:
            try:
                tube: Tube | None = _parse([counts], size)[0]
            except DamagedRunsError:
                tube = damaged(Job(place, [RLE(size=list(size), counts=text) for text in counts], size))
            if tube is not None:
                yield place, tube
    else:
        yield from zip((place for place, _ in tracks), tubes, strict=True)


def _parse(tracks: Sequence[list[str]], size: Size) -> list[Tube]:
    lengths = [len(counts) for counts in tracks]
    if not size[0]:
        return _without_mask(lengths)
    return cut(parse_counts([text for counts in tracks for text in counts], size[0] * size[1]), lengths, size)


@lru_cache
def _empty(height: int, width: int) -> RLE:
    if not height:
        return RLE(size=[0, 0], counts="")
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


def _without_mask(lengths: Sequence[int]) -> list[Tube]:
    first = np.zeros(sum(lengths) + 1, np.int64)
    none, spans = first[:0], np.zeros((2, len(first) - 1), np.int64)
    return _tubes(Sheet((0, 0), np.zeros(0, np.int32), first[1:], spans, first, none, none, none), lengths)


def _tubes(sheet: Sheet, lengths: Sequence[int]) -> list[Tube]:
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    return [Tube(sheet, start, length) for start, length in zip(starts, lengths, strict=True)]


def cut(pairs: RunPairs, lengths: Sequence[int], size: Size) -> list[Tube]:
    """The tubes of tracks of ``lengths`` frames each, from the runs of all their frames."""
    height = size[0]
    column, first = pairs.starts // height, pairs.first
    shift = column * height
    top, bottom = pairs.starts - shift, pairs.stops - shift
    if bottom.max(initial=0) > height:
        column, top, bottom, first = _cut_at_columns(column, top, bottom, first, height)
    return _tubes(_sheet(column, _packed(top, bottom, height), bottom > top, first, pairs.areas, size), lengths)


def _sheet(
    column: NDArray[Any], packed: NDArray[Any], some: NDArray[np.bool_], first: Ints, areas: Ints, size: Size
) -> Sheet:
    """Of strips in the columns ``frame * W + x``; ``some`` have a pixel."""
    number, before = np.diff(first), np.arange(len(areas)) * size[1]
    left, right = _spans(column, some, first)
    columns = right - left
    # A frame with few strips far apart has no columns, only other strips.
    columns[(areas == 0) | (columns > 2 * number + 16)] = 0
    begin = np.concatenate([[0], np.cumsum(columns)])
    nowhere = begin[-1]
    place = column + np.repeat((begin[:-1] - left).astype(column.dtype), number)
    last = first[1:] - 1
    place[last[~some[last]]] = nowhere
    thin = (columns == 0) & (number > 1)
    left_over = np.zeros(len(place), bool)
    np.equal(place[1:], place[:-1], out=left_over[:-1])
    out = ranges(first[:-1][thin], number[thin])
    place[out], left_over[out] = nowhere, True
    other = np.flatnonzero(left_over & some)
    frame_of = np.repeat(np.arange(len(areas)), np.diff(np.searchsorted(other, first)))
    frame, x, place_of, number_of, where = _blocks(column[other], frame_of)
    edges = np.zeros(nowhere + 1 + number_of.sum(), packed.dtype)
    edges[place.astype(np.intp)] = packed  # of a column the last strip stays
    edges[nowhere + 1 + where] = packed[other]
    main = np.arange(len(areas)), left - before, begin[:-1], columns
    blocks = np.concatenate([main, (frame, x - before[frame], nowhere + 1 + place_of, number_of)], axis=1)
    blocks = blocks[:, np.argsort(blocks[0], kind="stable")]
    of_frame = np.searchsorted(blocks[0], np.arange(len(areas) + 1))
    return Sheet(size, edges, areas, np.stack([left - before, right - before]), of_frame, *blocks[1:])


def _blocks(column: NDArray[Any], frame: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Frame, first column, place and number of columns of blocks of strips, and the place of each strip.

    The first strips of all columns go together, the second ones ..., so that masks that are noise have few blocks.
    """
    new = np.flatnonzero(np.diff(column, prepend=-1))
    rank = np.arange(len(column)) - np.repeat(new, np.diff(new, append=len(column)))
    order = np.lexsort((column, rank, frame))
    sorted_column, sorted_frame = column[order].astype(np.int64), frame[order]
    step = np.diff(sorted_column, prepend=-_MAX_GAP - 2)
    begin = np.flatnonzero((step < 1) | (step > _MAX_GAP) | (np.diff(sorted_frame, prepend=-1) != 0))
    end = np.append(begin[1:], len(column))[: len(begin)]
    x = sorted_column[begin]
    number = sorted_column[end - 1] + 1 - x
    place = np.cumsum(number) - number
    where = np.empty(len(column), np.int64)
    where[order] = sorted_column + np.repeat(place - x, end - begin)
    return sorted_frame[begin], x, place, number, where


def _spans(column: NDArray[Any], some: NDArray[np.bool_], first: Ints) -> tuple[Ints, Ints]:
    """The first column of each frame and one behind the last, or a little further."""
    last = first[1:] - 1
    last -= ~some[last] & (last > first[:-1])  # as a rule the last one has no pixel, and stands behind all columns
    left = column[first[:-1]].astype(np.int64)
    return left, column[last] + np.int64(1)


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
    found = tube.sheet.size
    if found not in (size, (0, 0)):
        t = int(np.argmax(tube.sheet.areas[tube.frames] > 0))
        masks.sized_runs(_empty(*found), *size, where(t))
