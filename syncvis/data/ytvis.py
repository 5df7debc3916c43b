"""Reader of data sets in YouTube-VIS format: JPEGImages/ and one JSON file per split, checked when loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from syncvis.data.frames import Frame, FrameReader, FrameSource
from syncvis.errors import DataError
from syncvis.ops import masks as rle

FRAMES_FOLDER = "JPEGImages"

Kind = TypeVar("Kind")
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Category:
    """A class of the data set; its label, 0 .. K-1, is its position in ``VideoDataset.categories``."""

    id: int
    name: str


@dataclass(frozen=True)
class TrackAnnotation:
    """One annotated instance of a video.

    Attributes:
        label: class index 0 .. K-1 (not the data set's category id).
        segmentations: one entry per frame, as in the file: None, an RLE or a list of polygons.
        where: the file and key it comes from, for errors.
    """

    id: int
    label: int
    iscrowd: bool
    height: int
    width: int
    segmentations: tuple[Any, ...]
    where: str

    def has_mask(self, t: int) -> bool:
        """Whether the instance is annotated in frame ``t``."""
        return bool(self.segmentations[t])

    def mask(self, t: int) -> NDArray[np.bool_]:
        """(H, W) bool mask in frame ``t``, empty where the instance is absent.

        Raises:
            DataError: The mask is damaged.
        """
        segmentation, where = self.segmentations[t], f"{self.where}.segmentations[{t}]"
        if not segmentation:
            return np.zeros((self.height, self.width), bool)
        if isinstance(segmentation, Mapping):
            return rle.decode(segmentation, self.height, self.width, where)
        return _decode_polygons(segmentation, self.height, self.width, where)


@dataclass(frozen=True)
class Video:
    """One video; ``file_names`` are relative to the frames folder, one per frame."""

    id: int
    height: int
    width: int
    file_names: tuple[str, ...]
    tracks: tuple[TrackAnnotation, ...] = ()

    def __len__(self) -> int:
        return len(self.file_names)


@dataclass(frozen=True)
class VideoDataset:
    """The videos of one JSON file.

    Attributes:
        source: the JSON file.
        categories: the classes; position is label.
        fingerprint: identity of the JSON's content, 16 hex digits.
        frames: reads and keeps the frames.
    """

    source: Path
    categories: tuple[Category, ...]
    videos: tuple[Video, ...]
    fingerprint: str
    frames: FrameSource

    @classmethod
    def load(cls, root: str | Path, json_name: str) -> VideoDataset:
        """Read and check a JSON file; frames and masks are read when they are asked for.

        The frames lie in JPEGImages next to the JSON file, in a folder named like it, or in ``root``.

        Raises:
            DataError: At the first thing that is wrong; it names the file, the key and the fix.
        """
        source = Path(root) / json_name
        content = _read_bytes(source)
        tree = _parse_json(content, source)
        categories = _read_categories(tree, source)
        videos = _read_videos(tree, source)
        tracks = _read_tracks(tree, source, videos, {c.id: label for label, c in enumerate(categories)})
        complete = tuple(_with_tracks(video, tracks[video.id]) for video in videos.values())
        frames = FrameReader(_find_frames(Path(root), source))
        return cls(source, categories, complete, hashlib.sha256(content).hexdigest()[:16], frames)

    def only(self, ids: Collection[int]) -> VideoDataset:
        """The data set without all other videos.

        Raises:
            DataError: There is no video of one of these ids.
        """
        known = {video.id for video in self.videos}
        if unknown := sorted(set(ids) - known):
            fix = f"choose among {sorted(known)[:10]}"
            raise DataError(f"no video has id {unknown[0]}", file=self.source, key="videos", fix=fix)
        return replace(self, videos=tuple(video for video in self.videos if video.id in ids))

    def read_frame(self, video: Video, t: int) -> Frame:
        """(H, W, 3) uint8 RGB, read-only.

        Raises:
            DataError: The image is missing, damaged, or of another size than its video.
        """
        return self.frames.read(video.file_names[t], video.height, video.width)


def _with_tracks(video: Video, tracks: list[TrackAnnotation]) -> Video:
    return Video(video.id, video.height, video.width, video.file_names, tuple(tracks))


def _read_bytes(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        fix = "correct data.root and the JSON's name, or create the data set first"
        raise DataError(f"cannot be read ({error.strerror})", file=source, fix=fix) from None


def _parse_json(content: bytes, source: Path) -> Json:
    try:
        tree = json.loads(content)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        fix = "correct the JSON there, or copy the file again"
        raise DataError(f"not valid JSON ({error.msg})", file=source, key=place, fix=fix) from None
    except (UnicodeDecodeError, RecursionError):
        raise DataError("not valid JSON text", file=source, fix="copy the file again") from None
    if not isinstance(tree, dict):
        problem = f"holds {_kind_name(tree)}, not an object with videos and categories"
        raise DataError(problem, file=source, fix="use a file in YouTube-VIS format")
    return tree


def _find_frames(root: Path, source: Path) -> Path:
    folders = [folder / FRAMES_FOLDER for folder in (source.parent, source.with_suffix(""), root)]
    for folder in folders:
        if folder.is_dir():
            return folder
    problem = "the folder with the frames is missing"
    raise DataError(problem, file=folders[0], fix="put the frames of the videos there")


def _read_categories(tree: Json, source: Path) -> tuple[Category, ...]:
    entries = _entries(tree, "categories", source)
    categories = tuple(
        Category(_get(entry, "id", int, source, key), _get(entry, "name", str, source, key)) for key, entry in entries
    )
    if not categories:
        raise DataError("there are no categories", file=source, key="categories", fix="list every class once")
    _check_unique(categories, "categories", source)
    return categories


def _read_videos(tree: Json, source: Path) -> dict[int, Video]:
    videos = [_read_video(entry, source, key) for key, entry in _entries(tree, "videos", source)]
    if not videos:
        raise DataError("there are no videos", file=source, key="videos", fix="use a split that has videos")
    _check_unique(videos, "videos", source)
    return {video.id: video for video in videos}


def _read_video(entry: Json, source: Path, key: str) -> Video:
    height, width = (_get(entry, side, int, source, key) for side in ("height", "width"))
    if min(height, width) < 1 or height * width > rle.MAX_FRAME_PIXELS:
        problem = f"size {height} x {width} is not between 1 and {rle.MAX_FRAME_PIXELS} pixels"
        raise DataError(problem, file=source, key=key, fix="correct height and width, or scale the video down")
    names = _get(entry, "file_names", list, source, key)
    if not names:
        raise DataError("the video has no frames", file=source, key=f"{key}.file_names", fix="remove the video")
    for t, name in enumerate(names):
        _check_file_name(name, source, f"{key}.file_names[{t}]")
    length = entry.get("length", len(names))
    if length != len(names):
        problem = f"length is {length}, but file_names lists {len(names)} frames"
        raise DataError(problem, file=source, key=f"{key}.length", fix="give both the same number of frames")
    return Video(_get(entry, "id", int, source, key), height, width, tuple(names))


def _check_file_name(name: Any, source: Path, key: str) -> None:
    if not isinstance(name, str) or not name:
        raise DataError(f"is {_kind_name(name)}, not a file name", file=source, key=key, fix="name the frame's file")
    path = PureWindowsPath(name)  # knows both kinds of separators and drive letters
    if path.anchor or ".." in path.parts or not path.parts:
        problem = f"{name!r} leaves the folder {FRAMES_FOLDER}"
        raise DataError(problem, file=source, key=key, fix="use a path relative to that folder, without '..'")


def _read_tracks(
    tree: Json, source: Path, videos: Mapping[int, Video], labels: Mapping[int, int]
) -> dict[int, list[TrackAnnotation]]:
    """Tracks by video id; a test set may have no annotations (or null, as the official files do)."""
    tracks: dict[int, list[TrackAnnotation]] = {video_id: [] for video_id in videos}
    entries = [] if tree.get("annotations") is None else _entries(tree, "annotations", source)
    for key, entry in entries:
        video = videos[_reference(entry, "video_id", videos, source, key)]
        label = labels[_reference(entry, "category_id", labels, source, key)]
        tracks[video.id].append(_read_track(entry, video, label, source, key))
    _check_unique([track for found in tracks.values() for track in found], "annotations", source)
    return tracks


def _reference(entry: Json, name: str, known: Mapping[int, Any], source: Path, key: str) -> int:
    value = _get(entry, name, int, source, key)
    if value not in known:
        plural = "videos" if name == "video_id" else "categories"
        problem = f"{value} is not the id of one of the {plural}"
        fix = f"correct it, or add the entry to {plural}"
        raise DataError(problem, file=source, key=f"{key}.{name}", fix=fix)
    return value


def _read_track(entry: Json, video: Video, label: int, source: Path, key: str) -> TrackAnnotation:
    segmentations = _get(entry, "segmentations", list, source, key)
    if len(segmentations) != len(video):
        problem = f"{len(segmentations)} masks for the {len(video)} frames of video {video.id}"
        fix = "give one mask, or null, per frame"
        raise DataError(problem, file=source, key=f"{key}.segmentations", fix=fix)
    for t, segmentation in enumerate(segmentations):
        _check_segmentation(segmentation, video, source, f"{key}.segmentations[{t}]")
    return TrackAnnotation(
        id=_get(entry, "id", int, source, key),
        label=label,
        iscrowd=bool(entry.get("iscrowd", 0)),
        height=video.height,
        width=video.width,
        segmentations=tuple(segmentations),
        where=f"{source}: {key}",
    )


def _check_segmentation(segmentation: Any, video: Video, source: Path, key: str) -> None:
    if segmentation is None or isinstance(segmentation, list):
        return
    if not isinstance(segmentation, dict):
        problem = f"is {_kind_name(segmentation)}, not null, an RLE or polygons"
        raise DataError(problem, file=source, key=key, fix="write the mask as an RLE")
    size = segmentation.get("size")
    if size != [video.height, video.width]:
        problem = f"the mask's size is {size}, its video's [{video.height}, {video.width}]"
        raise DataError(problem, file=source, key=f"{key}.size", fix="give masks and video one size")


def _decode_polygons(polygons: list[Any], height: int, width: int, where: str) -> NDArray[np.bool_]:
    points = [_polygon(polygon, height, width, where) for polygon in polygons]
    return rle.decode(coco.merge(coco.frPyObjects(points, height, width)), height, width, where)


def _polygon(polygon: Any, height: int, width: int, where: str) -> list[float]:
    """Checked x, y, x, y ...; pycocotools itself trusts what it is given."""
    numbers = isinstance(polygon, list) and all(type(x) in (int, float) for x in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        problem = "a polygon is not a list of three or more x, y pairs"
        raise DataError(problem, file=where, fix="write the mask as an RLE")
    points = np.array(polygon, float).reshape(-1, 2)
    if not ((points >= -1) & (points <= [width + 1, height + 1])).all():
        problem = f"a polygon does not fit its video of {height} x {width} pixels (height x width)"
        raise DataError(problem, file=where, fix="give masks and video one size")
    return [float(x) for x in polygon]


def _entries(tree: Json, name: str, source: Path) -> list[tuple[str, Json]]:
    """The objects of a top-level list, each with its key such as ``videos[3]``."""
    entries = _get(tree, name, list, source, "")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problem = f"is {_kind_name(entry)}, not an object"
            raise DataError(problem, file=source, key=f"{name}[{index}]", fix="use YouTube-VIS format")
    return [(f"{name}[{index}]", entry) for index, entry in enumerate(entries)]


def _get(entry: Json, name: str, kind: type[Kind], source: Path, key: str) -> Kind:
    place = f"{key}.{name}".lstrip(".")
    if name not in entry:
        raise DataError("the key is missing", file=source, key=place, fix=f"add {name!r}")
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = f"is {_kind_name(value)}, not {_NAMES[kind]}"
        raise DataError(problem, file=source, key=place, fix="use YouTube-VIS format")
    return value


_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number with a fraction",
    str: "text",
    list: "a list",
    dict: "an object",
    bool: "true or false",
    type(None): "null",
}


def _kind_name(value: Any) -> str:
    return _NAMES[type(value)]


def _check_unique(entries: tuple[Category, ...] | list[Video] | list[TrackAnnotation], name: str, source: Path) -> None:
    seen: set[int] = set()
    for entry in entries:
        if entry.id in seen:
            raise DataError(f"the id {entry.id} occurs twice", file=source, key=name, fix="give each entry its own id")
        seen.add(entry.id)
