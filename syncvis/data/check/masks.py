"""Reading masks of all kinds without trusting them; what comes out is safe for pycocotools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from syncvis.data.check.entries import Size, is_number, show
from syncvis.data.check.findings import Problem
from syncvis.data.segmentations import is_too_long
from syncvis.errors import DataError
from syncvis.ops import masks as rle
from syncvis.structures import RLE


@dataclass(frozen=True)
class Mask:
    """A mask that could be read.

    Attributes:
        box: left, top, width, height.
        outline: that of the polygons it was drawn from, None for an RLE; pixels fill it only about.
    """

    rle: RLE
    area: int
    box: tuple[int, int, int, int]
    outline: tuple[float, float, float, float] | None = None


def read_mask(segmentation: Any, size: Size | None) -> tuple[Mask | None, Problem | None]:
    """The mask of one frame and what is wrong with it; no mask where there is none or it cannot be read.

    Args:
        segmentation: As in the file: null, an RLE or a list of polygons.
        size: That of the video; None if unknown, then polygons cannot be read.
    """
    if segmentation is None:
        return None, None
    try:
        if isinstance(segmentation, list):
            return _from_polygons(segmentation, size)
        if isinstance(segmentation, Mapping):
            return _from_rle(segmentation, size)
    except DataError as error:
        return None, Problem("mask-damaged", error.problem[:200])
    return None, Problem("mask-type", f"is {show(segmentation)}, not null, an RLE or polygons")


def _from_rle(segmentation: Mapping[str, Any], size: Size | None) -> tuple[Mask | None, Problem | None]:
    found = segmentation.get("size")
    if size is not None and found != list(size):
        shown = " x ".join(map(show, found)) if isinstance(found, list) and len(found) == 2 else show(found)
        return None, Problem("mask-size", f"the mask is {shown}, its frame {size[0]} x {size[1]} (height x width)")
    height, width = size or rle.check_size(segmentation, "mask")
    runs = rle.runs({"size": [height, width], "counts": segmentation.get("counts")}, "mask")
    return _measured(rle.from_runs(runs, height, width)), None


def _measured(checked: RLE, points: NDArray[np.float64] | None = None) -> Mask:
    left, top, width, height = (int(side) for side in coco.toBbox(checked))
    outline = None if points is None else _extent(points)
    return Mask(checked, int(coco.area(checked)), (left, top, width, height), outline)


def _extent(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Left, top, width, height of (n, 2) points."""
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return left, top, right - left, bottom - top


def _from_polygons(polygons: list[Any], size: Size | None) -> tuple[Mask | None, Problem | None]:
    if size is None:
        return None, None
    if not polygons:
        return _measured(rle.from_runs(np.array([size[0] * size[1]]), *size)), None
    if (problem := _polygons_problem(polygons, size)) and problem.code != "polygon-outside":
        return None, problem
    drawn = coco.merge(coco.frPyObjects([[float(x) for x in polygon] for polygon in polygons], *size))
    checked = RLE(size=list(size), counts=drawn["counts"].decode("ascii"))
    return _measured(checked, _points(polygons)), problem


def _polygons_problem(polygons: list[Any], size: Size) -> Problem | None:
    for index, polygon in enumerate(polygons):
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(is_number, polygon)):
            text = f"polygon {index} is {show(polygon)}, not of three or more pairs of finite x, y"
            return Problem("polygon", text)
    if is_too_long([np.array(polygon, float) for polygon in polygons], *size):
        return Problem("polygon", f"the outline is too long for {size[0]} x {size[1]} pixels")
    points = _points(polygons)
    beyond = float(np.maximum(-points, points - [size[1], size[0]]).max())
    if beyond <= 0:
        return None
    code = "polygon-outside" if beyond <= 1 else "polygon-far-outside"
    return Problem(code, f"a point is {beyond:.4g} pixels outside the frame of {size[0]} x {size[1]}")


def _points(polygons: list[list[float]]) -> NDArray[np.float64]:
    return np.array(list(chain.from_iterable(polygons)), float).reshape(-1, 2)
