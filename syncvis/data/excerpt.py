"""A few videos of a data set as an annotation file of its own, for trying out what would read the whole one."""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from syncvis.data.annotations import Video
from syncvis.data.entries import FRAMES_FOLDER
from syncvis.data.jsonfile import JsonFile
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.files import not_written, write_text


def write_excerpt(dataset: VideoDataset, number: int, folder: Path) -> Path:
    """Write some videos, or images, with their annotations and all categories into an otherwise empty folder.

    The file has the name and the format of the source, and a link beside it leads to the frames, so that a reader takes
    it for a whole data set.

    Args:
        number: the shortest videos that show an instance, so many; of images the first ones.

    Raises:
        DataError: No video shows an instance.
        StorageError: The folder cannot be written to.
    """
    chosen = {video.id for video in _chosen(dataset, number)}
    if not chosen:
        fix = "use a split with labels; public validation sets have none"
        raise DataError("no video shows an instance", file=dataset.source, key="annotations", fix=fix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (folder / FRAMES_FOLDER).symlink_to(dataset.root.resolve(), target_is_directory=True)
    except OSError as error:
        raise not_written(folder, error) from None
    path = folder / dataset.source.name
    write_text(path, json.dumps(_only(JsonFile(dataset.source), chosen, dataset.is_still)) + "\n")
    return path


def _chosen(dataset: VideoDataset, number: int) -> list[Video]:
    shown = (video for video in dataset.videos if any(track.is_seen and not track.iscrowd for track in video.tracks))
    if dataset.is_still:
        return list(islice(shown, number))
    return heapq.nsmallest(number, shown, key=lambda video: (len(video.file_names), video.id))


def _only(file: JsonFile, ids: Collection[int], is_still: bool) -> dict[str, Any]:
    """The tree of a file with these videos or images alone."""
    videos, reference = ("images", "image_id") if is_still else ("videos", "video_id")

    def members(name: str, key: str) -> Iterator[Any]:
        return (entry for _, entry in file.objects(name) if entry[key] in ids)

    return {
        "categories": [entry for _, entry in file.objects("categories")],
        videos: list(members(videos, "id")),
        "annotations": list(members("annotations", reference)),
    }
