"""A ground truth in YouTube-VIS format, without its frames: what an evaluation needs of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syncvis.data.annotations import Category, TrackAnnotation, class_names
from syncvis.data.entries import check_length, read_areas, read_crowd, read_size, reference
from syncvis.data.formats import RESULTS, Format, recognise
from syncvis.data.json_text import loads
from syncvis.data.jsonfile import get, kind_name, missing, refuse_mislaid
from syncvis.errors import DataError, StorageError
from syncvis.evaluation.json_rows import no_collection
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo, annotated, is_seen, require_instances
from syncvis.evaluation.tubes import Job, Tube, read_tubes, tube_of

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
    try:
        return _of_tree(tree, path)
    except DataError:
        if other := recognise(tree):
            raise _of_other_format(other, path) from None
        raise


def _of_tree(tree: dict[str, Any], path: Path) -> Truth:
    categories = _by_id(tree, "categories", path)
    labels = {category_id: label for label, category_id in enumerate(categories)}
    videos = _by_id(tree, "videos", path)
    if tree.get("annotations") is None:
        if "annotations" not in tree:
            lists = (name for name, value in tree.items() if isinstance(value, list) and value)
            refuse_mislaid("annotations", lists, path)
        require_instances(path, ())
    known = {video_id: video_id for video_id in videos}
    tracks: dict[int, list[tuple[str, dict[str, Any]]]] = {video_id: [] for video_id in videos}
    for n, entry in enumerate(_by_id(tree, "annotations", path).values()):
        key = f"annotations[{n}]"
        tracks[reference(entry, "video_id", known, path, key)].append((key, entry))
    read = [_video(entry, f"videos[{n}]", tracks[i], labels, path) for n, (i, entry) in enumerate(videos.items())]
    read = _with_tubes(read)
    require_instances(path, ((track.iscrowd, is_seen(track)) for video in read for track in video.tracks))
    names = class_names([Category(i, str(entry.get("name", i))) for i, entry in categories.items()])
    return Truth(list(categories), names, read)


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
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot be read ({error.strerror})", file=path, fix="give the path of a split") from None
    tree = loads(content, path)
    if not isinstance(tree, dict):
        if other := recognise(tree):
            raise _of_other_format(other, path)
        raise DataError(f"holds {kind_name(tree)}, not an object with videos and annotations", file=path, fix=_FIX)
    return tree


def _of_other_format(other: Format, path: Path) -> DataError:
    fix = "swap the two: `syncvis eval-results GT.json RESULTS.json`" if other is RESULTS else other.fix
    return DataError(f"is {other.name}", file=path, fix=fix)


def _by_id(tree: dict[str, Any], name: str, path: Path) -> dict[int, dict[str, Any]]:
    """The entries of a list, by their ids, in their order."""
    if name not in tree:
        raise missing(name, tree, path, name)
    entries, found = tree[name], {}
    if not isinstance(entries, list):
        raise DataError(f"is {kind_name(entries)}, not a list", file=path, key=name, fix=_FIX)
    for n, entry in enumerate(entries):
        key = f"{name}[{n}]"
        if not isinstance(entry, dict):
            raise DataError(f"is {kind_name(entry)}, not an object", file=path, key=key, fix=_FIX)
        entry_id = get(entry, "id", int, path, key)
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
    height, width = read_size(entry, path, key)
    length = _length(entry, annotations, path, key)
    tracks = [_track(annotation, (height, width), length, labels, path, place) for place, annotation in annotations]
    return GroundTruthVideo(entry["id"], height, width, length, tracks)


def _length(entry: dict[str, Any], annotations: list[tuple[str, dict[str, Any]]], path: Path, key: str) -> int:
    """Number of frames; where neither it nor the frames are listed, that of the first annotation."""
    if isinstance(names := entry.get("file_names"), list):
        check_length(entry, names, path, key)
        return len(names)
    masks = annotations[0][1].get("segmentations") if annotations else None
    if entry.get("length") is None and isinstance(masks, list):
        return len(masks)
    length = get(entry, "length", int, path, key)
    if length < 1:
        raise DataError(f"is {length}, not a number of frames", file=path, key=f"{key}.length", fix="correct it")
    return length


def _track(
    entry: dict[str, Any], size: tuple[int, int], length: int, labels: dict[int, int], path: Path, key: str
) -> GroundTruthTrack:
    segmentations = get(entry, "segmentations", list, path, key)
    if len(segmentations) != length:
        problem = f"{len(segmentations)} masks for the {length} frames of video {entry['video_id']}"
        fix = "give one mask, or null, per frame"
        raise DataError(problem, file=path, key=f"{key}.segmentations", fix=fix)
    for t, segmentation in enumerate(segmentations):
        if segmentation is not None and not isinstance(segmentation, dict | list):
            place = f"{key}.segmentations[{t}]"
            problem = f"is {kind_name(segmentation)}, not null, an RLE or polygons"
            raise DataError(problem, file=path, key=place, fix="write the mask as an RLE")
    label = reference(entry, "category_id", labels, path, key)
    iscrowd = read_crowd(entry, path, key)
    track = TrackAnnotation(entry["id"], label, iscrowd, *size, tuple(segmentations), f"{path}: {key}")
    return annotated(track, read_areas(entry, path, key), entry["id"])
