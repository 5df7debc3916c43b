"""Wrong spellings in annotation files: what was meant, where only one thing can be.

The readers name them, ``syncvis data check --fix`` mends them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from syncvis.errors import DataError
from syncvis.ops import masks as rle
from syncvis.ops.count_spellings import readings

MENDED = "`syncvis data check FILE --fix OUT.json` mends it"
"""The fix that an error names where the check has one."""

NEAR = 1.0
"""Pixels by which a side of a box may be off that of its mask: some tools count the last pixel, some do not."""

EXACT = 0.01

EMPTY: tuple[Any, ...] = ("", [], None)
"""Counts in which no mask can be."""

_WHOLE = re.compile(r"\s*+([+-]?\d{1,19}+)(?:\.0*+)?+\s*+", re.ASCII)
_NUMBER = re.compile(r"\s*+[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d{1,3})?+\s*+", re.ASCII)
_PAIR = re.compile(r"\s*+[\[(]?\s*+(\d{1,9})\s*+(?:,|x|\s)\s*+(\d{1,9})\s*+[\])]?\s*+", re.ASCII)

Edges = tuple[float, float, float, float]
Respelt = tuple[str, Any]
"""What was wrong, in words, and the mask as it should stand."""


def whole(value: Any) -> int | None:
    """The whole number of 64 bits that a number or a text such as "7" or "7.0" is; None for all else."""
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value)
        value = int(match[1]) if match else None
    elif type(value) is float and value.is_integer():
        value = int(value) if abs(value) < 2**53 else None
    return value if type(value) is int and abs(value) < 2**63 else None


def respelt_mask(segmentation: Any, height: int, width: int, box: Any = None) -> Respelt | None:
    """What a mask that cannot be read was meant to be; None where nothing can be meant, or several things.

    Args:
        segmentation: as it stands in the file.
        box: left, top, width, height beside it, if there is one: it decides how a mask with swapped sides lies.
    """
    if box is None and _is_nothing(segmentation):
        return "something empty stands in place of null", []
    if isinstance(segmentation, str):
        return _of_text(segmentation, height, width, box)
    if isinstance(segmentation, Mapping):
        return _respelt_rle(segmentation, height, width, box)
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], Mapping | str):
        return _as_whole("the mask is an RLE inside a list", segmentation[0], height, width, box)
    return _respelt_polygons(segmentation) if isinstance(segmentation, list) else None


def _is_nothing(segmentation: Any) -> bool:
    """Whether a value is none that could hold a mask: {}, an RLE without counts, "", false, 0, NaN."""
    if isinstance(segmentation, Mapping):
        bare = segmentation.keys() <= {"size", "counts"}
        return not segmentation or (bare and segmentation.get("counts", 0) in EMPTY)
    if isinstance(segmentation, str):
        return segmentation.strip().lower() in ("", "null", "none", "nan")
    return isinstance(segmentation, int | float) and not segmentation > 0 and not segmentation < 0


def _of_text(text: str, height: int, width: int, box: Any) -> Respelt | None:
    """Of a mask that was turned into text as a whole."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return _as_whole("the mask is JSON written as text", json.loads(text), height, width, box)
    except (ValueError, RecursionError):
        return None


def _as_whole(wrong: str, inner: Any, height: int, width: int, box: Any) -> Respelt | None:
    """Of a mask that stands inside something else, and is right there or wrongly spelt itself."""
    if isinstance(inner, Mapping) and inner.get("size") == [height, width] and _fills(inner, height, width):
        return wrong, inner
    if isinstance(inner, list) and inner and all(map(_is_polygon, inner)):
        return wrong, inner
    found = respelt_mask(inner, height, width, box) if isinstance(inner, Mapping | list) else None
    return found and (wrong, found[1])


def _respelt_rle(mask: Mapping[str, Any], height: int, width: int, box: Any) -> Respelt | None:
    size, counts = _sides(mask.get("size")), mask.get("counts")
    if size not in ([height, width], [width, height]):
        return None
    wrong = [] if mask["size"] == size else ["the size is written as text"]
    if not _fills(mask, height, width):
        found = _meant_counts(counts, height, width)
        if found is None:
            return None
        wrong.append(found[0])
        counts = found[1]
    value: Mapping[str, Any] | None = {**mask, "size": [height, width], "counts": counts}
    if size != [height, width]:
        wrong.append(rle.size_problem(size, height, width))
        value = _unswapped({**mask, "size": [height, width], "counts": counts}, height, width, box)
    return (", ".join(wrong), value) if wrong and value else None


def _sides(size: Any) -> list[int] | None:
    """Height and width that a size stands for."""
    if isinstance(size, str):
        match = _PAIR.fullmatch(size)
        size = list(match.groups()) if match else None
    sides = [whole(side) for side in size] if isinstance(size, list) and len(size) == 2 else []
    return [side for side in sides if side is not None] if sides and None not in sides else None


def _fills(mask: Mapping[str, Any], height: int, width: int) -> bool:
    """Whether the counts are a mask of so many pixels."""
    return _runs(mask.get("counts"), height, width) is not None


def _runs(counts: Any, height: int, width: int) -> list[int] | None:
    try:
        return rle.runs({"size": [height, width], "counts": counts}, "").tolist()
    except DataError:
        return None


def _meant_counts(counts: Any, height: int, width: int) -> Respelt | None:
    """Of the readings of the counts the one that fills the frame; None where several do with other pixels."""
    found = [(name, value, _runs(value, height, width)) for name, value in readings(counts)]
    fitting = [(name, value, runs) for name, value, runs in found if runs is not None]
    return fitting[0][:2] if fitting and all(runs == fitting[0][2] for *_, runs in fitting) else None


def _unswapped(mask: Mapping[str, Any], height: int, width: int, box: Any) -> Mapping[str, Any] | None:
    """A mask whose size was [width, height]: only the size is wrong, or the mask lies on its side; the box decides."""
    as_is = rle.from_runs(rle.runs(mask, ""), height, width)
    lying = rle.decode({**mask, "size": [width, height]}, width, height, "")
    turned = rle.encode(np.ascontiguousarray(lying.T))
    if as_is == turned:
        return mask
    if (edges := _edges(box)) is None:
        return None
    for tolerance in (EXACT, NEAR):
        fits = [near(edges, rle.bbox(reading), tolerance) for reading in (as_is, turned)]
        if fits[0] != fits[1]:
            return mask if fits[0] else {**mask, **turned}
    return None


def _edges(box: Any) -> Edges | None:
    """Left, top, right, bottom of a box as a file has it."""
    if not isinstance(box, list) or len(box) != 4 or not all(_is_coordinate(side) for side in box):
        return None
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def near(edges: Edges, box: Edges, tolerance: float = NEAR) -> bool:
    """Whether left, top, right, bottom are about those of a box, left, top, width, height."""
    left, top, width, height = box
    own = (left, top, left + width, top + height)
    return all(abs(a - b) <= tolerance for a, b in zip(edges, own, strict=True))  # not for NaN


def _respelt_polygons(polygons: list[Any]) -> Respelt | None:
    """Polygons as lists of x, y, x, y ... each."""
    wrong: list[str] = []
    if polygons and all(_number(x) is not None for x in polygons):
        wrong, polygons = ["the polygon is a flat list of numbers, not inside a list"], [polygons]
    elif are_points(polygons):
        wrong, polygons = ["the polygon is a list of points"], [polygons]
    found = [_flat(polygon, wrong) for polygon in polygons]
    return (wrong[0], found) if wrong and all(map(_is_polygon, found)) else None


def are_points(polygons: list[Any]) -> bool:
    """Whether what should be a list of polygons is one polygon, a list of points."""
    return len(polygons) >= 3 and all(map(_is_point, polygons))


def _flat(polygon: Any, wrong: list[str]) -> list[Any]:
    """x, y, x, y ... of a polygon in any spelling; nothing of what is none. ``wrong`` takes what is wrong with it."""
    if isinstance(polygon, list) and len(polygon) == 1 and isinstance(polygon[0], list):
        polygon = polygon[0]
        wrong.append("the polygon is a list inside a list")
    if not isinstance(polygon, list):
        return []
    if all(map(_is_point, polygon)):
        wrong.append("the polygon is a list of points")
        points = [[point["x"], point["y"]] if isinstance(point, Mapping) else point for point in polygon]
        polygon = list(chain.from_iterable(points))
    if any(isinstance(x, str) for x in polygon):
        wrong.append("the polygon has numbers written as text")
    return list(map(_number, polygon))


def _is_point(item: Any) -> bool:
    if isinstance(item, Mapping):
        item = [item.get("x"), item.get("y")]
    return isinstance(item, list) and len(item) == 2 and all(_number(x) is not None for x in item)


def _number(value: Any) -> float | None:
    """A finite number, also from text."""
    if isinstance(value, str):
        value = float(value) if len(value) < 40 and _NUMBER.fullmatch(value) else None
    return value if _is_coordinate(value) else None


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**63  # not NaN


def _is_polygon(polygon: Any) -> bool:
    numbers = isinstance(polygon, list) and all(map(_is_coordinate, polygon))
    return numbers and len(polygon) >= 6 and len(polygon) % 2 == 0
