"""Predictions as results.json, the file that the YouTube-VIS evaluation server takes.

The file is a list with one entry a track: ``{"video_id", "score", "category_id", "segmentations"}``, where
``segmentations`` has one RLE or null for every frame of the video.
"""

from __future__ import annotations

import json
import math
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

from syncvis.errors import DataError
from syncvis.evaluation.json_rows import json_rows, no_collection
from syncvis.evaluation.truth import GroundTruthVideo
from syncvis.evaluation.tubes import Job, Size, Tube, read_tubes, tube_of
from syncvis.files import write_atomically
from syncvis.ops import masks
from syncvis.predictions import RLE, Track, VideoPrediction


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
    path: str | Path,
    category_ids: Sequence[int],
    left_out: list[str] | None = None,
    videos: Iterable[GroundTruthVideo] = (),
) -> list[VideoPrediction]:
    """Read all tracks, video by video in the order of their ids, best track first.

    A video without a track is not in the file and not in the answer. The file is read row by row; what is held are
    checked run lengths, see :class:`syncvis.evaluation.tubes.Tube`.

    Args:
        category_ids: The data set's category id of each class index.
        left_out: takes the places of rows with another category, which are then left out, as the official evaluator
            does; None refuses them.
        videos: whose rows must have their number of frames and their size.

    Raises:
        DataError: The file is not JSON, or a row lacks a key, has a wrong value or a damaged mask; the error
            names the row, counted from 0, and the key.
        StorageError: The file cannot be read.
    """
    path = Path(path)
    by_video: defaultdict[int, list[tuple[float, int, Track]]] = defaultdict(list)
    with no_collection():
        for row, tube in _tubes(path, category_ids, left_out, {video.id: video for video in videos}):
            by_video[row.video_id].append((-row.score, row.number, Track(row.label, row.score, tube)))
    return [
        VideoPrediction(video_id, tuple(track for *_, track in sorted(by_video[video_id], key=itemgetter(0, 1))))
        for video_id in sorted(by_video)
    ]


class _Row(NamedTuple):
    """A row of the file without its masks."""

    number: int
    video_id: int
    label: int
    score: float


Videos = Mapping[int, GroundTruthVideo]


def _tubes(
    path: Path, category_ids: Sequence[int], left_out: list[str] | None, videos: Videos
) -> Iterator[tuple[_Row, Tube]]:
    jobs = _jobs(path, category_ids, left_out, videos)
    return read_tubes(jobs, lambda job: _read_one_by_one(job.frames, f"{path}: row {job.place.number}: segmentations"))


def _jobs(path: Path, category_ids: Sequence[int], left_out: list[str] | None, videos: Videos) -> Iterator[Job[_Row]]:
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    for n, row in enumerate(json_rows(path)):
        place = f"row {n}"
        if left_out is not None and _of_other_category(row, labels):
            left_out.append(f"{place}: category_id {row['category_id']}")
            continue
        video_id, label, score, frames = _parse_row(row, labels, path, place)
        seen = next((t for t, rle in enumerate(frames) if rle), None)
        where = f"{path}: {place}: segmentations[{seen}]"
        size = (0, 0) if seen is None else masks.check_size(frames[seen], where)
        if video := videos.get(video_id):
            _check_fit(frames, size, video, path, place)
        yield Job(_Row(n, video_id, label, score), frames, size)


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


def _check_fit(frames: Sequence[Any], size: Size, video: GroundTruthVideo, path: Path, place: str) -> None:
    key = f"{place}: segmentations"
    if len(frames) != video.length:
        problem = f"has {len(frames)} frames, video {video.id} has {video.length}"
        raise DataError(problem, file=path, key=key, fix="give one mask (or null) for every frame")
    if size not in ((0, 0), (video.height, video.width)):
        problem = f"the masks are {size[0]} x {size[1]} pixels, video {video.id} {video.height} x {video.width}"
        raise DataError(f"{problem} (height x width)", file=path, key=key, fix="give masks the size of their video")


def _read_one_by_one(frames: Sequence[RLE | None], where: str) -> Tube:
    """Masks of which one is damaged or has its counts in another form."""
    for t, rle in enumerate(frames):
        if rle:
            masks.runs(rle, f"{where}[{t}]")
    sizes = {tuple(rle["size"]) for rle in frames if rle}
    if len(sizes) > 1:
        raise DataError("masks have different sizes", file=where, fix="give all masks the size of the video")
    height, width = sizes.pop()
    return tube_of(frames, (height, width), lambda t: f"{where}[{t}]")


def _wrong(key: str, value: Any, wanted: str, path: Path, place: str) -> DataError:
    shown = "missing" if value is None else f"{str(value)[:60]!r}"
    return DataError(f"is {shown}, not {wanted}", file=path, key=f"{place}: {key}", fix=f"write {wanted}")
