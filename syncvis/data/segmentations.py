"""One mask of an annotation file: checked, packed to bytes, unpacked and decoded.

Masks come as RLE with compressed or uncompressed counts or as polygons. Packed, an RLE is its compressed counts and
polygons are float64 x, y, x, y ... with a NaN between two polygons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from syncvis.data.mask_faults import kind_fault, named, outline, polygons_fault
from syncvis.errors import DataError
from syncvis.ops import masks as rle
from syncvis.ops.run_lengths import DamagedRunsError, Runs, parse_counts

Packed = tuple[int, bytes]

ABSENT, COUNTS, POLYGONS, BLANK = range(4)
"""The kinds of packed masks; a blank one is there but has no pixel, so it reads as an absent one."""

SEEN = (COUNTS, POLYGONS)
"""The kinds with a pixel."""

# Compressed counts without a run of ones: every second run is 0, and so is its difference to the one before.
_NO_ONES = re.compile(r"[P-o]*+[0-O](?:P*+0[P-o]*+[0-O])*+(?:P*+0)?")

# Five bits each and a sign; a run is shorter than a frame.
MAX_RUN_CHARACTERS = 6


def pack(segmentation: Any, height: int, width: int, source: Any, key: str) -> Packed:
    """Kind and bytes of a mask as it stands in the JSON: null, an RLE or a list of polygons.

    Compressed counts with a run of ones are checked when the mask is read, everything else here.

    Raises:
        DataError: The mask is damaged or of another size than its video.
    """
    if segmentation is None:
        return ABSENT, b""
    try:
        return _packed(segmentation, height, width, source, key)
    except DataError as error:
        raise named(error, segmentation, height, width) from None


def _packed(segmentation: Any, height: int, width: int, source: Any, key: str) -> Packed:
    if fault := kind_fault(segmentation, height, width):
        place = f"{key}.size" if fault.code == "mask-size" else key
        raise DataError(fault.text, file=source, key=place, fix=fault.fix)
    if isinstance(segmentation, list):
        polygons = _polygons(segmentation, height, width, f"{source}: {key}")
        return (BLANK, b"") if _draw_nothing(polygons, height, width) else (POLYGONS, _joined(polygons))
    counts = segmentation.get("counts")
    if not isinstance(counts, str):
        runs = rle.runs({"size": [height, width], "counts": counts}, f"{source}: {key}")
        counts = rle.from_runs(runs, height, width)["counts"]
    if len(counts) > MAX_RUN_CHARACTERS * (height * width + 1):
        problem = "damaged mask: more runs than pixels"
        raise DataError(problem, file=source, key=key, fix="write the mask as an RLE")
    if _NO_ONES.fullmatch(counts):
        rle.runs({"size": [height, width], "counts": counts}, f"{source}: {key}")  # nobody will read it
        return BLANK, b""
    return COUNTS, counts.encode("utf-8", "surrogatepass")


def unpack(kind: int, packed: bytes, height: int, width: int) -> Any:
    """The mask as in a JSON file: None, an RLE with compressed counts, or a list of polygons."""
    if kind not in SEEN:
        return None
    if kind == COUNTS:
        return {"size": [height, width], "counts": packed.decode("utf-8", "surrogatepass")}
    points = np.frombuffer(packed, np.float64)
    borders = np.flatnonzero(np.isnan(points))
    return [piece[~np.isnan(piece)].tolist() for piece in np.split(points, borders)]


def decode(segmentation: Any, height: int, width: int, where: str) -> NDArray[np.bool_]:
    """(H, W) bool of a mask as in a JSON file; empty where it is absent.

    Args:
        where: the file and key it comes from, for errors.

    Raises:
        DataError: The mask is damaged or of another size.
    """
    if not segmentation:
        return np.zeros((height, width), bool)
    try:
        counts = _compressed(segmentation, height, width, where)
        return rle.decode({"size": [height, width], "counts": counts}, height, width, where)
    except DataError as error:
        raise named(error, segmentation, height, width) from None


def runs_of_ones(masks: Sequence[tuple[Any, str]], height: int, width: int) -> list[tuple[Runs, Runs]]:
    """Where the runs of ones of masks as in a JSON file start and stop, counted in pixels down their columns.

    Args:
        masks: each with the file and key it comes from, for errors.

    Raises:
        DataError: A mask is damaged or of another size.
    """
    counts = [_compressed(segmentation, height, width, where) for segmentation, where in masks]
    try:
        pairs = parse_counts(counts, height * width)
    except DamagedRunsError:
        for segmentation, where in masks:
            decode(segmentation, height, width, where)  # raises
        raise
    runs = []
    for n in range(len(counts)):
        part = slice(*pairs.first[n : n + 2])
        some, begin = pairs.starts[part] < pairs.stops[part], n * height * width
        runs.append((pairs.starts[part][some] - begin, pairs.stops[part][some] - begin))
    return runs


def _compressed(segmentation: Any, height: int, width: int, where: str) -> str:
    """The counts of a mask that is not absent; compressed ones are not checked."""
    if fault := kind_fault(segmentation, height, width):
        raise DataError(fault.text, file=where, fix=fault.fix)
    if isinstance(segmentation, Mapping):
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            return counts
        return rle.from_runs(rle.runs({"size": [height, width], "counts": counts}, where), height, width)["counts"]
    points = [polygon.tolist() for polygon in _polygons(segmentation, height, width, where)]
    drawn: bytes = coco.merge(coco.frPyObjects(points, height, width))["counts"]
    return drawn.decode()


def _joined(polygons: Sequence[NDArray[np.float64]]) -> bytes:
    border = np.array([np.nan])
    pieces = [piece for points in polygons for piece in (border, points)]
    return np.concatenate(pieces[1:]).tobytes()


def _draw_nothing(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> bool:
    """Whether polygons have no pixel; only thin ones, whose outline is longer than their area, need to be drawn."""
    if not all(abs(_area(points.reshape(-1, 2))) <= outline(points.reshape(-1, 2)) for points in polygons):
        return False
    drawn = coco.frPyObjects([points.tolist() for points in polygons], height, width) if polygons else []
    return not any(coco.area(mask) for mask in drawn)


def _area(points: NDArray[np.float64]) -> float:
    """Of the polygon through (n, 2) points; what it goes round twice counts twice."""
    x, y = points[:, 0], points[:, 1]
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]) / 2


def _polygons(polygons: list[Any], height: int, width: int, where: str) -> list[NDArray[np.float64]]:
    """Checked x, y, x, y ... of each polygon; pycocotools itself trusts what it is given."""
    fault = polygons_fault(polygons, height, width)
    if fault and fault.code != "polygon-outside":
        raise DataError(fault.text, file=where, fix=fault.fix)
    return [np.array(polygon, np.float64) for polygon in polygons]
