"""Predictions as results.json, the file that the YouTube-VIS evaluation server takes.

The file is a list with one entry a track: ``{"video_id", "score", "category_id", "segmentations"}``, where
``segmentations`` has one RLE or null for every frame of the video.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from syncvis.errors import DataError
from syncvis.evaluation.json_rows import json_rows, no_collection
from syncvis.evaluation.rows import RowReader
from syncvis.evaluation.truth import GroundTruthVideo
from syncvis.evaluation.tubes import read_tubes
from syncvis.files import write_atomically
from syncvis.predictions import Track, VideoPrediction


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
    remarks: list[str] | None = None,
) -> list[VideoPrediction]:
    """Read all tracks, video by video in the order of their ids, best track first.

    A video without a track is not in the file and not in the answer. The file is read row by row; what is held are
    checked run lengths, see :class:`syncvis.evaluation.tubes.Tube`.

    Args:
        category_ids: The data set's category id of each class index.
        left_out: takes the places of rows with another category, which are then left out, as the official evaluator
            does; None refuses them.
        videos: whose rows must have their number of frames and their size.
        remarks: takes what an evaluation server would not accept in how the file is packed.

    Raises:
        DataError: The file is not JSON, or rows lack a key, have a wrong value or a damaged mask; the error counts
            them and names the first ones, counted from 0, with their keys.
        StorageError: The file cannot be read.
    """
    path = Path(path)
    reader = RowReader(path, category_ids, left_out, {video.id: video for video in videos})
    by_video: defaultdict[int, list[tuple[float, int, Track]]] = defaultdict(list)
    with no_collection():
        for row, tube in read_tubes(reader.jobs(json_rows(path, remarks)), reader.read_one_by_one):
            by_video[row.video_id].append((-row.score, row.number, Track(row.label, row.score, tube)))
    reader.refuse_bad_rows()
    return [
        VideoPrediction(video_id, tuple(track for *_, track in sorted(by_video[video_id], key=itemgetter(0, 1))))
        for video_id in sorted(by_video)
    ]
