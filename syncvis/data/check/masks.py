"""Reading masks of all kinds without trusting them; what comes out is safe for pycocotools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from syncvis.data.check.entries import Size
from syncvis.data.check.findings import Problem
from syncvis.data.mask_faults import Fault, kind_fault, polygons_fault
from syncvis.data.spellings import respelt_mask
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


@dataclass(frozen=True)
class Reading:
    """A mask as it was read: None where there is none or it cannot be read.

    Attributes:
        problem: what is wrong with it.
        respelt: how it has to be written, where it could be read only because one thing alone can be meant.
    """

    mask: Mask | None = None
    problem: Problem | None = None
    respelt: Any = None


def read_mask(segmentation: Any, size: Size | None, box: Any = None) -> Reading:
    """The mask of one frame.

    Args:
        segmentation: As in the file: null, an RLE or a list of polygons.
        size: That of the video; None if unknown, then polygons cannot be read.
        box: What the file has beside the mask.
    """
    found = _read(segmentation, size)
    if size is None or found.mask or not found.problem:
        return found
    if (respelt := respelt_mask(segmentation, *size, box)) is None:
        return found
    wrong, meant = respelt
    return Reading(_read(meant, size).mask, Problem("mask-spelling", wrong), meant)


def _read(segmentation: Any, size: Size | None) -> Reading:
    if segmentation is None:
        return Reading()
    if (size or not isinstance(segmentation, Mapping)) and (fault := kind_fault(segmentation, *(size or (0, 0)))):
        return Reading(problem=_problem(fault))
    try:
        return _from_polygons(segmentation, size) if isinstance(segmentation, list) else _from_rle(segmentation, size)
    except DataError as error:
        return Reading(problem=Problem("mask-damaged", error.problem[:200]))


def _problem(fault: Fault) -> Problem:
    return Problem(fault.code, fault.text)


def _from_rle(segmentation: Mapping[str, Any], size: Size | None) -> Reading:
    height, width = size or rle.check_size(segmentation, "mask")
    runs = rle.runs({"size": [height, width], "counts": segmentation.get("counts")}, "mask")
    return Reading(_measured(rle.from_runs(runs, height, width)))


def _measured(checked: RLE, points: NDArray[np.float64] | None = None) -> Mask:
    left, top, width, height = (int(side) for side in coco.toBbox(checked))
    outline = None if points is None else _extent(points)
    return Mask(checked, int(coco.area(checked)), (left, top, width, height), outline)


def _extent(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Left, top, width, height of (n, 2) points."""
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return left, top, right - left, bottom - top


def _from_polygons(polygons: list[Any], size: Size | None) -> Reading:
    if size is None:
        return Reading()
    if not polygons:
        return Reading(_measured(rle.from_runs(np.array([size[0] * size[1]]), *size)))
    if (fault := polygons_fault(polygons, *size)) and fault.code != "polygon-outside":
        return Reading(problem=_problem(fault))
    drawn = coco.merge(coco.frPyObjects([[float(x) for x in polygon] for polygon in polygons], *size))
    checked = RLE(size=list(size), counts=drawn["counts"].decode("ascii"))
    points = np.array(list(chain.from_iterable(polygons)), float).reshape(-1, 2)
    return Reading(_measured(checked, points), _problem(fault) if fault else None)
