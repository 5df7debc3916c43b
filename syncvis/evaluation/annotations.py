"""A ground truth in YouTube-VIS format, without its frames: what an evaluation needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syncvis.data.annotations import Category, TrackAnnotation, class_names
from syncvis.data.entries import read_areas, read_crowd
from syncvis.data.jsonfile import loads
from syncvis.errors import DataError, StorageError
from syncvis.evaluation.json_rows import no_collection
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo, annotated
from syncvis.evaluation.tubes import Job, Tube, read_tubes, tube_of
from syncvis.ops.masks import MAX_FRAME_PIXELS

_FIX = "use a file in YouTube-VIS format"


@dataclass(frozen=True)
class Truth:
    """The videos of a file; a class index is a place in ``category_ids`` and ``names``."""

    category_ids: list[int]
    names: list[str]
    videos: list[GroundTruthVideo]


def read_truth(path: str | Path) -> Truth:
    """Read the annotations of a split.

    Raises:
        DataError: The file is not JSON, or an entry lacks a key or has a wrong value; the error names the key.
        StorageError: The file cannot be read.
    """
    with no_collection():
        return _truth(Path(path))


def _truth(path: Path) -> Truth:
    tree = _read(path)
    categories = _by_id(tree, "categories", path)
    labels = {category_id: label for label, category_id in enumerate(categories)}
    videos = _by_id(tree, "videos", path)
    tracks: dict[int, list[tuple[str, dict[str, Any]]]] = {video_id: [] for video_id in videos}
    for n, entry in enumerate(_by_id(tree, "annotations", path).values()):
        key = f"annotations[{n}]"
        tracks[_reference(entry, "video_id", videos, path, key)].append((key, entry))
    read = [_video(entry, f"videos[{n}]", tracks[i], labels, path) for n, (i, entry) in enumerate(videos.items())]
    names = class_names([Category(i, str(entry.get("name", i))) for i, entry in categories.items()])
    return Truth(list(categories), names, _with_tubes(read))


def _with_tubes(videos: list[GroundTruthVideo]) -> list[GroundTruthVideo]:
    """Their masks read at once; damaged ones stay as they are, for the evaluation to name."""
    jobs = [
        Job((n, g), track.segmentations, (video.height, video.width))
        for n, video in enumerate(videos)
        for g, track in enumerate(video.tracks)
    ]
    tubes = dict(read_tubes(jobs, _one_by_one))
    return [
        replace(
            video,
            tracks=[replace(t, segmentations=tubes.get((n, g), t.segmentations)) for g, t in enumerate(video.tracks)],
        )
        for n, video in enumerate(videos)
    ]


def _one_by_one(job: Job[Any]) -> Tube | None:
    try:
        return tube_of(job.frames, job.size, str)
    except DataError:
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot be read ({error.strerror})", file=path, fix="give the path of a split") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file=path, fix="copy the file again") from None
    if not isinstance(tree, dict):
        raise DataError("is not an object with videos and annotations", file=path, fix=_FIX)
    return tree


def _by_id(tree: dict[str, Any], name: str, path: Path) -> dict[int, dict[str, Any]]:
    """The entries of a list, by their ids, in their order."""
    entries, found = tree.get(name), {}
    if not isinstance(entries, list):
        fix = "evaluate on a split with labels; public validation sets have none"
        raise DataError(f"has no list of {name}", file=path, key=name, fix=fix if name == "annotations" else _FIX)
    for n, entry in enumerate(entries):
        key = f"{name}[{n}]"
        if not isinstance(entry, dict):
            raise DataError("is not an object with keys", file=path, key=key, fix=_FIX)
        entry_id = _whole(entry, "id", path, key)
        if entry_id in found:
            raise DataError(f"the id {entry_id} occurs twice", file=path, key=key, fix="give each entry its own id")
        found[entry_id] = entry
    return found


def _video(
    entry: dict[str, Any],
    key: str,
    annotations: list[tuple[str, dict[str, Any]]],
    labels: dict[int, int],
    path: Path,
) -> GroundTruthVideo:
    height, width = (_whole(entry, side, path, key, least=1) for side in ("height", "width"))
    if height * width > MAX_FRAME_PIXELS:
        problem = f"{height} x {width} is over the limit of {MAX_FRAME_PIXELS} pixels"
        raise DataError(problem, file=path, key=key, fix="correct height and width, or scale the video down")
    length = _length(entry, annotations, path, key)
    tracks = [_track(annotation, (height, width), length, labels, path, place) for place, annotation in annotations]
    return GroundTruthVideo(entry["id"], height, width, length, tracks)


def _length(entry: dict[str, Any], annotations: list[tuple[str, dict[str, Any]]], path: Path, key: str) -> int:
    """Number of frames; where neither it nor the frames are listed, that of the first annotation."""
    lists = [entry.get("file_names"), *(annotation.get("segmentations") for _, annotation in annotations[:1])]
    listed = [len(value) for value in lists if isinstance(value, list)]
    if entry.get("length") is not None or not listed:
        return _whole(entry, "length", path, key, least=1)
    return listed[0]


def _track(
    entry: dict[str, Any], size: tuple[int, int], length: int, labels: dict[int, int], path: Path, key: str
) -> GroundTruthTrack:
    segmentations = entry.get("segmentations")
    if not isinstance(segmentations, list) or len(segmentations) != length:
        problem = f"is not a list with one mask, or null, for each of the {length} frames of its video"
        raise DataError(problem, file=path, key=f"{key}.segmentations", fix="give one mask, or null, per frame")
    for t, segmentation in enumerate(segmentations):
        if segmentation is not None and not isinstance(segmentation, dict | list):
            place = f"{key}.segmentations[{t}]"
            raise DataError("is not null, an RLE or polygons", file=path, key=place, fix="write the mask as an RLE")
    label = labels[_reference(entry, "category_id", labels, path, key)]
    iscrowd = read_crowd(entry, path, key)
    track = TrackAnnotation(entry["id"], label, iscrowd, *size, tuple(segmentations), f"{path}: {key}")
    return annotated(track, read_areas(entry, path, key), entry["id"])


def _reference(entry: dict[str, Any], name: str, known: Mapping[int, Any], path: Path, key: str) -> int:
    value = _whole(entry, name, path, key)
    if value not in known:
        problem = f"{value} is not the id of one of the {'videos' if name == 'video_id' else 'categories'}"
        raise DataError(problem, file=path, key=f"{key}.{name}", fix="correct it, or add the entry")
    return value


def _whole(entry: dict[str, Any], name: str, path: Path, key: str, least: int | None = None) -> int:
    value = entry.get(name)
    if type(value) is not int or (least is not None and value < least):
        shown = "missing" if value is None else f"{value!r:.60}"
        wanted = "a whole number" if least is None else f"a whole number from {least}"
        raise DataError(f"is {shown}, not {wanted}", file=path, key=f"{key}.{name}", fix=_FIX)
    return value
