"""What is wrong with a mask of an annotation file: one sentence for the readers and for ``syncvis data check``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncvis.data.jsonfile import kind_name
from syncvis.data.spellings import MENDED, are_points, respelt_mask
from syncvis.errors import DataError
from syncvis.ops import masks as rle

# pycocotools draws an outline with 5 points a pixel; a longer one than this is no outline of a thing.
MAX_OUTLINE = 10_000_000
MAX_COORDINATE = 2**63

_FIX_SIZE = "give masks and video one size"
_FIX_MASK = "write the mask as an RLE or as polygons [[x, y, x, y, ...], ...]"


@dataclass(frozen=True)
class Fault:
    """A fault; ``code`` is that of the finding."""

    code: str
    text: str
    fix: str = _FIX_MASK


def kind_fault(segmentation: Any, height: int, width: int) -> Fault | None:
    """What is wrong with a mask that is there, but for its counts and points: it is none, or of another size."""
    if isinstance(segmentation, list):
        return None
    if not isinstance(segmentation, Mapping):
        return Fault("mask-type", f"is {kind_name(segmentation)}, not null, an RLE or polygons")
    size = segmentation.get("size")
    if size == [height, width]:
        return None
    if size is None:
        return Fault("mask-size", "the mask has no size", f"give it the size [{height}, {width}], if it is of that")
    fix = f"{MENDED} where the box shows how the mask lies" if size == [width, height] else _FIX_SIZE
    return Fault("mask-size", rle.size_problem(size, height, width), fix)


def polygons_fault(polygons: list[Any], height: int, width: int) -> Fault | None:
    """What is wrong with polygons; up to a pixel outside of the frame (``polygon-outside``) can be read."""
    if not polygons:
        return None
    if fault := _list_fault(polygons) or next(filter(None, map(_polygon_fault, range(len(polygons)), polygons)), None):
        return fault
    points = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
    beyond = max(float(np.maximum(-piece, piece - [width, height]).max()) for piece in points)
    if beyond <= 1 and _is_too_long(points, height, width):
        return Fault("polygon", f"the outline of the polygons is too long for {height} x {width} pixels")
    text = f"a point is {beyond:.4g} pixels outside the frame of {height} x {width} (height x width)"
    code = "polygon-outside" if beyond <= 1 else "polygon-far-outside"
    return Fault(code, text, f"cut it off at the edge of the frame, or {_FIX_SIZE}") if beyond > 0 else None


def _list_fault(polygons: list[Any]) -> Fault | None:
    """What is wrong with the list of polygons as a whole."""
    if all(type(x) in (int, float) for x in polygons):
        box = " (a box?)" if len(polygons) == 4 else ""
        return Fault("polygon", f"the polygon is a flat list of {len(polygons)} numbers{box}, not inside a list")
    if are_points(polygons):
        return Fault("polygon", "the polygon is a list of points, not of numbers inside a list")
    return None


def _polygon_fault(index: int, polygon: Any) -> Fault | None:
    name = f"polygon {index}"
    if not isinstance(polygon, list):
        return Fault("polygon", f"{name} is {kind_name(polygon)}, not a list of numbers x, y, x, y")
    for x in polygon:
        if type(x) not in (int, float):
            return Fault("polygon", f"{name} has {kind_name(x)} in place of a number")
        if not abs(x) < MAX_COORDINATE:  # NaN is not either
            return Fault("polygon", f"{name} has a number that is not finite", "draw the polygon again without it")
    if len(polygon) < 6 or len(polygon) % 2:
        text = f"{name} has {len(polygon)} number{'s' * (len(polygon) != 1)}, not three or more pairs of x, y"
        return Fault("polygon", text, "give it three points or more, or leave it out")
    return None


def _is_too_long(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> bool:
    """Whether the outlines, (n, 2) points each, pass more pixels than a picture of this size could hold."""
    most = min(height * width + 10 * (height + width), MAX_OUTLINE)
    return sum(map(outline, polygons)) > most


def outline(points: NDArray[np.float64]) -> float:
    """About the number of pixels that the closed outline through (n, 2) points passes."""
    closed = np.concatenate([points, points[:1]])
    steps = np.abs(closed[1:] - closed[:-1])
    return float(np.maximum(steps[:, 0], steps[:, 1]).sum()) + len(points)


def named(error: DataError, segmentation: Any, height: int, width: int) -> DataError:
    """The error of reading a mask; where the check can mend the mask, it says what is wrong as the check does."""
    respelt = respelt_mask(segmentation, height, width)
    return DataError(respelt[0], file=error.file, key=error.key, fix=MENDED) if respelt else error
