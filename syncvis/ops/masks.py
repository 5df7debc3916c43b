"""COCO run-length masks: checked, decoded and encoded.

A mask is read down its columns; runs of zeros and ones alternate and the first run is of zeros. pycocotools
trusts its input: a damaged RLE makes it hang, crash or return foreign memory. So every RLE is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from syncvis.errors import DataError
from syncvis.ops.count_spellings import AS_BYTES, misspelling
from syncvis.ops.run_lengths import DamagedRunsError, parse_counts
from syncvis.predictions import RLE

Runs = NDArray[np.int64]

MAX_FRAME_PIXELS = 64_000_000

_FIX = "write the mask again with syncvis.ops.masks.encode or pycocotools.mask.encode"
_DECODE = "decode the counts before they are written: rle['counts'].decode('ascii')"


def runs(rle: Mapping[str, Any], where: str) -> Runs:
    """The run lengths of a mask, zeros first, alternating; only the first may be 0.

    Args:
        rle: ``size`` [height, width] and ``counts``: compressed text or bytes, or a list of integers.
        where: The file and annotation it comes from, for errors.

    Returns:
        (R,) int64 run lengths in pixels; they sum to height * width.

    Raises:
        DataError: The size or the counts are damaged, or the mask has more than :data:`MAX_FRAME_PIXELS` pixels.
    """
    height, width = check_size(rle, where)
    counts = rle.get("counts")
    try:
        if isinstance(counts, str | bytes):
            lengths = _parse_text(counts, height * width)
        elif isinstance(counts, Sequence | np.ndarray):
            lengths = _parse_list(counts)
        else:
            raise DamagedRunsError(f"counts is {type(counts).__name__}, not text or a list of integers")
        _check_lengths(lengths, height * width)
    except DamagedRunsError as error:
        known = misspelling(counts)
        raise _damaged(known or str(error), where, _DECODE if known == AS_BYTES else _FIX) from None
    return _merge(lengths)


def check_size(rle: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Height and width of an RLE.

    Raises:
        DataError: There are none, or together they are over :data:`MAX_FRAME_PIXELS`.
    """
    if not isinstance(rle, Mapping):
        raise _damaged(f"is {type(rle).__name__}, not an RLE with size and counts", where)
    size = rle.get("size")
    if not isinstance(size, list | tuple) or len(size) != 2 or any(type(side) is not int for side in size):
        raise _damaged(f"size is {str(size)[:60]}, not [height, width] in pixels", where)
    height, width = size
    if min(size) < 1:
        raise _damaged(f"size is {height} x {width} pixels", where)
    if height * width > MAX_FRAME_PIXELS:
        raise DataError(
            f"size {height} x {width} is over the limit of {MAX_FRAME_PIXELS} pixels",
            file=where,
            fix="scale the video down, or correct the size",
        )
    return height, width


def _parse_text(counts: str | bytes, pixels: int) -> Runs:
    """Of compressed counts (see :mod:`syncvis.ops.run_lengths`)."""
    pairs = parse_counts([counts if isinstance(counts, str) else counts.decode("latin-1")], pixels)
    lengths = np.diff(np.stack([pairs.starts, pairs.stops], axis=1).ravel(), prepend=0)
    return lengths if lengths[-1] else lengths[:-1]


def _parse_list(counts: Sequence[Any] | NDArray[Any]) -> Runs:
    try:
        values = np.asarray(counts)
    except (ValueError, OverflowError):
        values = np.empty(0)
    if values.ndim != 1 or values.dtype.kind != "i" or not len(values):
        raise DamagedRunsError("counts is not text and not a list of integers")
    return values.astype(np.int64)


def _check_lengths(lengths: Runs, pixels: int) -> None:
    if lengths.min() < 0:
        raise DamagedRunsError("counts has a negative run")
    if lengths.max() > pixels or lengths.sum() != pixels:
        raise DamagedRunsError(f"counts does not sum to the {pixels} pixels of its size")


def _merge(lengths: Runs) -> Runs:
    """Join the runs around an empty one; two such RLEs make pycocotools end its IoU early."""
    if len(lengths) < 2 or lengths[1:].all():
        return lengths
    kept = np.flatnonzero(lengths)
    value = kept % 2
    starts = np.flatnonzero(np.diff(value, prepend=1 - value[0]))
    joined: Runs = np.add.reduceat(lengths[kept], starts)
    return np.concatenate([[0], joined]) if value[0] else joined


def _damaged(problem: str, where: str, fix: str = _FIX) -> DataError:
    return DataError(f"damaged mask: {problem}", file=where, fix=fix)


def from_runs(lengths: Runs, height: int, width: int) -> RLE:
    """The RLE of run lengths that sum to ``height * width``, such as :func:`runs` gives."""
    try:
        _check_lengths(lengths, height * width)
    except DamagedRunsError as error:
        raise _damaged(str(error), "run lengths") from None
    size = [height, width]
    rle = coco.frPyObjects({"size": size, "counts": _merge(lengths)}, height, width)
    return RLE(size=size, counts=rle["counts"].decode("ascii"))


def encode(mask: NDArray[np.bool_]) -> RLE:
    """(H, W) bool -> RLE."""
    height, width = mask.shape
    rle = coco.encode(mask.astype(bool).astype(np.uint8, order="F"))
    return RLE(size=[height, width], counts=rle["counts"].decode("ascii"))


def decode(rle: Mapping[str, Any], height: int, width: int, where: str) -> NDArray[np.bool_]:
    """RLE -> (H, W) bool; as a run-length mask itself, it lies in memory column by column.

    Raises:
        DataError: The RLE is damaged or is not of size ``height, width``.
    """
    lengths = sized_runs(rle, height, width, where)
    ones = np.arange(len(lengths)) % 2 == 1
    mask: NDArray[np.bool_] = np.repeat(ones, lengths).reshape(width, height).T
    return mask


def sized_runs(rle: Mapping[str, Any], height: int, width: int, where: str) -> Runs:
    """:func:`runs` of a mask that has to be of this size.

    Raises:
        DataError: It is damaged or of another size.
    """
    lengths = runs(rle, where)
    if list(rle["size"]) != [height, width]:
        swapped = list(rle["size"]) == [width, height]
        fix = "encode the mask as height x width" if swapped else "give masks and video one size"
        raise DataError(size_problem(rle["size"], height, width), file=where, fix=fix)
    return lengths


def size_problem(found: Any, height: int, width: int) -> str:
    """In words, what is wrong with the size of a mask that is not [height, width]."""
    sides = list(found) if isinstance(found, list | tuple) else []
    shown = " x ".join(f"{side!r:.20}" for side in sides) if len(sides) == 2 else f"of size {found!r:.60}"
    swapped = ": height and width are swapped" if sides == [width, height] else " (height x width)"
    return f"the mask is {shown}, its video {height} x {width}{swapped}"


def area(rle: Mapping[str, Any], where: str = "mask") -> int:
    """Number of pixels of the mask."""
    return int(runs(rle, where)[1::2].sum())


def bbox(rle: Mapping[str, Any], where: str = "mask") -> tuple[int, int, int, int]:
    """Smallest box around the mask: left, top, width, height in pixels; all 0 for an empty mask."""
    height, width = check_size(rle, where)
    checked = from_runs(runs(rle, where), height, width)
    left, top, box_width, box_height = (int(x) for x in coco.toBbox(checked))
    return left, top, box_width, box_height
