"""Predictions as results.json, the file that the YouTube-VIS evaluation server takes.

The file is a list with one entry a track: ``{"video_id", "score", "category_id", "segmentations"}``, where
``segmentations`` has one RLE or null for every frame of the video.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from syncvis.errors import DataError
from syncvis.evaluation.json_rows import json_rows
from syncvis.files import write_atomically
from syncvis.ops import masks
from syncvis.ops.run_lengths import parse_counts
from syncvis.structures import RLE, Track, VideoPrediction


def write_results(path: str | Path, predictions: Iterable[VideoPrediction], category_ids: Sequence[int]) -> None:
    """Write all tracks, video by video; the file is replaced as a whole or not at all.

    Args:
        path: of a ``.json``, or of a ``.zip`` to upload, which then holds one ``results.json``.
        category_ids: The data set's category id of each class index.

    Raises:
        DataError: A track has a class index without category or a score that is not finite.
        StorageError: The file cannot be written.
    """
    path = Path(path)
    rows = (_row(p.video_id, track, category_ids, path) for p in predictions for track in p.tracks)
    if path.suffix == ".zip":
        write_atomically(path, lambda temporary: _write_zip(temporary, rows))
    else:
        write_atomically(path, lambda temporary: _write_json(temporary, rows))


def _write_json(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("wb") as stream:
        _write_rows(stream, rows)


def _write_zip(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("results.json", "w", force_zip64=True) as stream,
    ):
        _write_rows(stream, rows)


def _write_rows(stream: IO[bytes], rows: Iterable[dict[str, Any]]) -> None:
    stream.write(b"[")
    for n, row in enumerate(rows):
        stream.write((", " if n else "").encode() + json.dumps(row).encode())
    stream.write(b"]")


def _row(video_id: int, track: Track, category_ids: Sequence[int], path: Path) -> dict[str, Any]:
    place = f"prediction for video {video_id}"
    if not 0 <= track.label < len(category_ids):
        raise DataError(
            f"class index {track.label} is not in 0 .. {len(category_ids) - 1}",
            file=path,
            key=place,
            fix="write with the categories the model was trained with",
        )
    if not math.isfinite(track.score):
        raise DataError(f"score is {track.score}", file=path, key=place, fix="give a finite score")
    return {
        "video_id": int(video_id),
        "score": float(track.score),
        "category_id": int(category_ids[track.label]),
        "segmentations": list(track.masks),
    }


def read_results(
    path: str | Path, category_ids: Sequence[int], left_out: list[str] | None = None
) -> list[VideoPrediction]:
    """Read all tracks, video by video in the order of their ids, best track first.

    A video without a track is not in the file and not in the answer. The file is read row by row; what is held are
    compressed masks.

    Args:
        category_ids: The data set's category id of each class index.
        left_out: takes the places of rows with another category, which are then left out, as the official evaluator
            does; None refuses them.

    Raises:
        DataError: The file is not JSON, or a row lacks a key, has a wrong value or a damaged mask; the error
            names the row, counted from 0, and the key.
        StorageError: The file cannot be read.
    """
    return _read(Path(path), category_ids, left_out, _parse_frames)


def load_results(
    path: str | Path, category_ids: Sequence[int], left_out: list[str] | None = None
) -> list[VideoPrediction]:
    """As :func:`read_results`, but masks are left as they are, for an evaluation, which checks every one itself."""
    return _read(Path(path), category_ids, left_out, lambda frames, where: tuple(frames))


def _read(
    path: Path,
    category_ids: Sequence[int],
    left_out: list[str] | None,
    parse: Callable[[list[Any], str], tuple[RLE | None, ...]],
) -> list[VideoPrediction]:
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    by_video: dict[int, list[Track]] = {}
    with _no_collection():
        for n, row in enumerate(json_rows(path)):
            place = f"row {n}"
            if left_out is not None and _of_other_category(row, labels):
                left_out.append(f"{place}: category_id {row['category_id']}")
                continue
            video_id, label, score, frames = _parse_row(row, labels, path, place)
            track = Track(label, score, parse(frames, f"{path}: {place}: segmentations"))
            by_video.setdefault(video_id, []).append(track)
    return [
        VideoPrediction(video_id, tuple(sorted(by_video[video_id], key=lambda track: -track.score)))
        for video_id in sorted(by_video)
    ]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Many objects without cycles are made: the search for cycles would take longer than reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _of_other_category(row: Any, labels: dict[int, int]) -> bool:
    category_id = row.get("category_id") if isinstance(row, dict) else None
    return type(category_id) is int and category_id not in labels


def _parse_row(row: Any, labels: dict[int, int], path: Path, place: str) -> tuple[int, int, float, list[Any]]:
    if not isinstance(row, dict):
        raise DataError("is not an object with keys", file=path, key=place, fix="write one object a track")
    video_id, score, category_id = row.get("video_id"), row.get("score"), row.get("category_id")
    if type(video_id) is not int:
        raise _wrong("video_id", video_id, "the id of a video, an integer", path, place)
    if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= sys.float_info.max:
        raise _wrong("score", score, "a finite number", path, place)
    if type(category_id) is not int or category_id not in labels:
        raise _wrong("category_id", category_id, f"one of {sorted(labels)}", path, place)
    frames = row.get("segmentations")
    if not isinstance(frames, list) or not frames:
        raise _wrong("segmentations", frames, "a list with an RLE or null for every frame", path, place)
    return video_id, labels[category_id], float(score), frames


def _parse_frames(frames: list[Any], where: str) -> tuple[RLE | None, ...]:
    try:
        return _parse_alike(frames)
    except (
        ValueError,
        TypeError,
        KeyError,
        DataError,
    ):  # another form of counts, or damage: mask by mask, which names it
        checked = tuple(None if rle is None else _parse_mask(rle, f"{where}[{t}]") for t, rle in enumerate(frames))
    if len({tuple(rle["size"]) for rle in checked if rle is not None}) > 1:
        raise DataError("masks have different sizes", file=where, fix="give all masks the size of the video")
    return checked


def _parse_alike(frames: list[Any]) -> tuple[RLE | None, ...]:
    """Masks of one size with compressed counts, all at once; ValueError, TypeError or KeyError for any others."""
    rles = [rle for rle in frames if rle is not None]
    if not rles:
        return tuple(frames)
    size = list(rles[0]["size"])
    height, width = masks.check_size(rles[0], "row")
    if any([rle["size"] != size for rle in rles]):  # noqa: C419 (a generator takes twice the time)
        raise ValueError
    parse_counts([rle["counts"] for rle in rles], height * width)
    return tuple([None if rle is None else RLE(size=size, counts=rle["counts"]) for rle in frames])


def _parse_mask(rle: Any, where: str) -> RLE:
    lengths = masks.runs(rle, where)
    height, width = rle["size"]
    return masks.from_runs(lengths, height, width)


def _wrong(key: str, value: Any, wanted: str, path: Path, place: str) -> DataError:
    shown = "missing" if value is None else f"{str(value)[:60]!r}"
    return DataError(f"is {shown}, not {wanted}", file=path, key=f"{place}: {key}", fix=f"write {wanted}")
