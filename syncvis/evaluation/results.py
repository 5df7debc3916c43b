"""Predictions as results.json, the file that the YouTube-VIS evaluation server takes.

The file is a list with one entry a track: ``{"video_id", "score", "category_id", "segmentations"}``, where
``segmentations`` has one RLE or null for every frame of the video.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syncvis.errors import DataError, StorageError
from syncvis.files import write_text
from syncvis.ops import masks
from syncvis.structures import RLE, Track, VideoPrediction


def write_results(path: str | Path, predictions: Sequence[VideoPrediction], category_ids: Sequence[int]) -> None:
    """Write all tracks; the file is replaced as a whole or not at all.

    Args:
        category_ids: The data set's category id of each class index.

    Raises:
        DataError: A track has a class index without category or a score that is not finite.
        StorageError: The file cannot be written.
    """
    rows = [_row(p.video_id, track, category_ids, Path(path)) for p in predictions for track in p.tracks]
    write_text(Path(path), json.dumps(rows))


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


def read_results(path: str | Path, category_ids: Sequence[int]) -> list[VideoPrediction]:
    """Read all tracks, video by video in the order of their ids, best track first.

    A video without a track is not in the file and not in the answer.

    Args:
        category_ids: The data set's category id of each class index.

    Raises:
        DataError: The file is not JSON, or a row lacks a key, has a wrong value or a damaged mask; the error
            names the row, counted from 0, and the key.
        StorageError: The file cannot be read.
    """
    path = Path(path)
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    by_video: dict[int, list[Track]] = {}
    for n, row in enumerate(_read_rows(path)):
        video_id, track = _parse_row(row, labels, path, f"row {n}")
        by_video.setdefault(video_id, []).append(track)
    return [
        VideoPrediction(video_id, tuple(sorted(by_video[video_id], key=lambda track: -track.score)))
        for video_id in sorted(by_video)
    ]


def _read_rows(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            f"cannot be read ({error.strerror})", file=path, fix="give the path of a results.json"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file=path, fix="write the file again") from None
    if not isinstance(rows, list):
        raise DataError("is not a list of rows", file=path, fix="give a results.json with one row a track")
    return rows


def _parse_row(row: Any, labels: dict[int, int], path: Path, place: str) -> tuple[int, Track]:
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
    return video_id, Track(labels[category_id], float(score), _parse_frames(frames, f"{path}: {place}: segmentations"))


def _parse_frames(frames: list[Any], where: str) -> tuple[RLE | None, ...]:
    checked = tuple(None if rle is None else _parse_mask(rle, f"{where}[{t}]") for t, rle in enumerate(frames))
    if len({tuple(rle["size"]) for rle in checked if rle is not None}) > 1:
        raise DataError("masks have different sizes", file=where, fix="give all masks the size of the video")
    return checked


def _parse_mask(rle: Any, where: str) -> RLE:
    lengths = masks.runs(rle, where)
    height, width = rle["size"]
    return masks.from_runs(lengths, height, width)


def _wrong(key: str, value: Any, wanted: str, path: Path, place: str) -> DataError:
    shown = "missing" if value is None else f"{str(value)[:60]!r}"
    return DataError(f"is {shown}, not {wanted}", file=path, key=f"{place}: {key}", fix=f"write {wanted}")
