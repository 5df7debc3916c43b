"""Reader of data sets in YouTube-VIS format: frames in a folder and one JSON file per split, checked when loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from syncvis.data.annotations import Category, TrackAnnotation, Video
from syncvis.data.entries import (
    FRAMES_FOLDER,
    check_file_name,
    check_length,
    check_tracks,
    check_unique,
    find_frames,
    named_format,
    read_areas,
    read_categories,
    read_crowd,
    read_size,
    reference,
)
from syncvis.data.frames import Frame, FrameReader, FrameSource, check_file
from syncvis.data.jsonfile import Json, JsonFile, get
from syncvis.data.segmentations import Packed, pack
from syncvis.data.store import Store, StoredVideos
from syncvis.data.video_file import count_frames, frame_names, is_video_file, split_name
from syncvis.errors import DataError

__all__ = ["FRAMES_FOLDER", "Category", "TrackAnnotation", "Video", "VideoDataset"]

MAX_FRAMES = 100_000
"""Of one video."""


@dataclass(frozen=True)
class VideoDataset:
    """The videos of one JSON file.

    Attributes:
        source: the JSON file.
        categories: the classes; position is label.
        videos: made when they are asked for, from arrays that processes share (``syncvis.data.store``).
        fingerprint: identity of the JSON's content, 16 hex digits.
        frames: reads and keeps the frames.
        is_still: the videos are single images, to be shown as clips that repeat them.
        notes: what a user should know of how the file was read, a sentence each.
    """

    source: Path
    categories: tuple[Category, ...]
    videos: Sequence[Video]
    fingerprint: str
    frames: FrameSource
    is_still: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, root: str | Path, json_name: str) -> VideoDataset:
        """Read and check a JSON file; frames and masks are read when they are asked for.

        The frames lie where the public data sets have them (``syncvis.data.entries.find_frames``).

        Raises:
            DataError: At the first thing that is wrong; it names the file, the key and the fix.
        """
        file = JsonFile(Path(root) / json_name)
        store = Store(f"{file.source}: annotations")
        with named_format(file), file.read():
            first = next((first_file(entry) for _, entry in file.objects("videos")), None)
            frames = find_frames(Path(root), file.source, first)
            rows = _read_videos(file, store, frames)
            categories = read_categories(file)
            _read_tracks(file, store, rows, {category.id: label for label, category in enumerate(categories)})
        store.close()
        videos = StoredVideos(store, np.arange(len(rows)))
        return cls(file.source, categories, videos, file.fingerprint, FrameReader(frames))

    @property
    def root(self) -> Path:
        """The folder that the names of frames are relative to."""
        assert isinstance(self.frames, FrameReader)
        return self.frames.root

    def only(self, ids: Collection[int]) -> VideoDataset:
        """The data set without all other videos.

        Raises:
            DataError: There is no video of one of these ids.
        """
        known = self.videos.ids if isinstance(self.videos, StoredVideos) else [video.id for video in self.videos]
        if unknown := sorted(set(ids) - set(known)):
            fix = f"choose among {sorted(known)[:10]}"
            raise DataError(f"no video has id {unknown[0]}", file=self.source, key="videos", fix=fix)
        if isinstance(self.videos, StoredVideos):
            return replace(self, videos=self.videos.only(ids))
        return replace(self, videos=tuple(video for video in self.videos if video.id in ids))

    def relabelled(self, categories: tuple[Category, ...], labels: Sequence[int]) -> VideoDataset:
        """The data set with other classes, still in shared arrays: label l becomes ``labels[l]``.

        Instances with a negative label are left out, and videos that have no others.
        """
        assert isinstance(self.videos, StoredVideos)
        return replace(self, categories=categories, videos=self.videos.relabelled(labels))

    def labelled_as(self, categories: Sequence[Category]) -> VideoDataset:
        """The data set with the labels of another list of classes, which has to match its own by name.

        Its classes keep their ids (:func:`syncvis.data.annotations.match_by_name`).
        """
        if self.categories == tuple(categories):
            return self
        assert isinstance(self.videos, StoredVideos)
        labels = {category.name: label for label, category in enumerate(categories)}
        own = tuple(sorted(self.categories, key=lambda category: labels[category.name]))
        videos = self.videos.renumbered([labels[category.name] for category in self.categories])
        return replace(self, categories=own, videos=videos)

    def read_frame(self, video: Video, t: int) -> Frame:
        """(H, W, 3) uint8 RGB, read-only.

        Raises:
            DataError: The image is missing, damaged, or of another size than its video.
        """
        return self.frames.read(video.file_names[t], video.height, video.width)


def first_file(entry: Json) -> str | None:
    """The file name of a video's first frame, or of its video file; None if it has none."""
    names = entry.get("file_names", [entry.get("file_name")])
    name = names[0] if isinstance(names, list) and names else None
    return split_name(name)[0] if isinstance(name, str) else None


def _read_videos(file: JsonFile, store: Store, frames: Path) -> dict[int, int]:
    """The row of each video by its id."""
    for key, entry in file.objects("videos"):
        size = read_size(entry, file.source, key)
        names = _read_file_names(entry, file.source, key, frames)
        store.add_video(get(entry, "id", int, file.source, key), *size, names)
    ids = store.video_table[:, 0]
    if not len(ids):
        raise DataError("there are no videos", file=file.source, key="videos", fix="use a split that has videos")
    check_unique(ids, "videos", file.source)
    return {video_id: row for row, video_id in enumerate(ids.tolist())}


def _read_file_names(entry: Json, source: Path, key: str, frames: Path) -> list[str]:
    """The names of the frames: ``file_names``, or those in the video file that ``file_name`` names."""
    if is_one_file(entry):
        return read_video_file(entry, source, key, frames)
    names = get(entry, "file_names", list, source, key)
    check_length(entry, names, source, key)
    _check_length(len(names), source, f"{key}.file_names")
    for t, name in enumerate(names):
        check_file_name(name, source, f"{key}.file_names[{t}]")
    return names


def is_one_file(entry: Json) -> bool:
    """Whether a video names a video file, not its frames."""
    return "file_names" not in entry and "file_name" in entry


def read_video_file(entry: Json, source: Path, key: str, frames: Path) -> list[str]:
    """The names of the frames of the video file that ``file_name`` names, or that is alone in the folder it names.

    Raises:
        DataError: There is no such file, or its name or length are wrong.
    """
    named = find_video_file(entry, source, key, frames)
    if named.there is not None and named.length > named.there:
        fix = "correct the length, or copy the video again"
        raise DataError(named.too_long, file=source, key=f"{key}.length", fix=fix)
    return frame_names(named.name, named.length)


class NamedVideo(NamedTuple):
    """A video file in the JSON: how many frames are of use, and how many are ``there`` (None: the file is not)."""

    name: str
    length: int
    there: int | None

    @property
    def too_long(self) -> str:
        return f"length is {self.length}, but the video has {self.there} frames"


def find_video_file(entry: Json, source: Path, key: str, frames: Path) -> NamedVideo:
    """The video file that ``file_name`` names, or that is alone in the folder it names.

    Raises:
        DataError: There is none and no ``length`` either, it cannot be read, or its name or length are wrong.
    """
    name = get(entry, "file_name", str, source, key)
    check_file_name(name, source, f"{key}.file_name")
    if os.path.isdir(frames / name):
        found = _video_files(frames / name)
        if len(found) != 1:
            problem = f"the folder {name!r} has {len(found)} video files, not one"
            raise DataError(problem, file=source, key=f"{key}.file_name", fix="name the video file itself")
        name = found[0].relative_to(frames).as_posix()
    if not is_video_file(name):
        problem = f"{name!r} is not named like a video file"
        raise DataError(problem, file=source, key=f"{key}.file_name", fix="name a video file, or list file_names")
    length = None if entry.get("length") is None else get(entry, "length", int, source, key)
    if length is not None:
        _check_length(length, source, f"{key}.length")
    if length is not None and not os.path.lexists(frames / name):  # masks can be counted without the videos
        return NamedVideo(name, length, None)
    check_file(frames / name, frames.resolve())
    there = count_frames(frames / name)
    if length is None:
        _check_length(there, source, f"{key}.length")
    return NamedVideo(name, there if length is None else length, there)


def _video_files(folder: Path) -> list[Path]:
    """Of a folder, none if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if is_video_file(path.name))
    except OSError:
        return []


def _check_length(length: int, source: Path, key: str) -> None:
    if not 1 <= length <= MAX_FRAMES:
        problem = f"{length} frames are not between 1 and {MAX_FRAMES}"
        raise DataError(problem, file=source, key=key, fix="cut the video")


def _read_tracks(file: JsonFile, store: Store, rows: Mapping[int, int], labels: Mapping[int, int]) -> None:
    """Tracks of a file; a test set may have no annotations (or null, as the official files do)."""
    if file.is_absent("annotations"):
        return
    lengths = np.diff(store.video_table[:, 3], prepend=0).tolist()
    sizes = store.video_table[:, 1:3].tolist()
    for place, (key, entry) in enumerate(file.objects("annotations")):
        row = reference(entry, "video_id", rows, file.source, key)
        label = reference(entry, "category_id", labels, file.source, key)
        track_id = get(entry, "id", int, file.source, key)
        masks = _read_masks(entry, lengths[row], sizes[row], file.source, key)
        crowd, area = read_crowd(entry, file.source, key), _mean_area(read_areas(entry, file.source, key))
        store.add_track(track_id, label, crowd, row, place, masks, area)
    check_tracks(store, file.source)


def _read_masks(entry: Json, length: int, size: tuple[int, int], source: Path, key: str) -> Iterator[Packed]:
    segmentations = get(entry, "segmentations", list, source, key)
    if len(segmentations) != length:
        problem = f"{len(segmentations)} masks for the {length} frames of video {entry['video_id']}"
        fix = "give one mask, or null, per frame"
        raise DataError(problem, file=source, key=f"{key}.segmentations", fix=fix)
    return (pack(s, *size, source, f"{key}.segmentations[{t}]") for t, s in enumerate(segmentations))


def _mean_area(areas: list[float | None] | None) -> float:
    """Of the frames that show the instance; NaN where it is not known."""
    if areas is None:
        return math.nan
    seen = [area for area in areas if area]
    return float(np.mean(seen)) if seen else 0.0
