"""COCO instances as pseudo-clips: every image is a video of one frame, with the classes of a video data set."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syncvis.data.annotations import Category
from syncvis.data.coco_names import Names, names_for, plain
from syncvis.data.entries import (
    check_file_name,
    check_tracks,
    check_unique,
    find_frames,
    named_format,
    read_categories,
    read_crowd,
    read_size,
    reference,
)
from syncvis.data.formats import recognise
from syncvis.data.frames import FrameReader
from syncvis.data.jsonfile import Json, JsonFile, get
from syncvis.data.segmentations import ABSENT, SEEN, Packed, pack
from syncvis.data.spellings import are_points
from syncvis.data.store import Store, StoredVideos
from syncvis.data.ytvis import VideoDataset, first_file
from syncvis.errors import DataError


def load_coco(
    root: str | Path, json_name: str, categories: Sequence[Category], names: Names | None = None
) -> VideoDataset:
    """Read a file of COCO instances for the classes of a video data set.

    Instances of other classes are left out, as are those without a mask of three points, and images that then show
    no instance or only crowds.

    Args:
        root: has the images in a folder named like the JSON's split (``annotations/instances_train2017.json``:
            ``train2017``), or where :func:`syncvis.data.entries.find_frames` looks.
        categories: those of the video data set; labels are places in them.
        names: COCO name -> name in ``categories``; default: the table of the public data set they are of, or equal
            names (:func:`syncvis.data.coco_names.names_for`).

    Raises:
        DataError: At the first thing that is wrong, or if no class or image is of use.
    """
    file = JsonFile(Path(root) / json_name)
    store = Store(f"{file.source}: annotations")
    with named_format(file, stills=True), file.read():
        first = next((first_file(entry) for _, entry in file.objects("images")), None)
        labels = _labels(file, categories, names_for([c.name for c in categories]) if names is None else names)
        frames = find_frames(Path(root), file.source, first)
        _read_tracks(file, store, _read_images(file, store), labels)
    store.close()
    tracks = store.track_table
    rows = np.unique(tracks[tracks[:, 2] == 0, 3])
    if not len(rows):
        problem = "no image shows an instance of the wanted classes"
        raise DataError(problem, file=file.source, key="annotations", fix="correct the names of the classes")
    videos = StoredVideos(store, rows)
    reader, notes = FrameReader(frames), _notes(file)
    return VideoDataset(file.source, tuple(categories), videos, file.fingerprint, reader, is_still=True, notes=notes)


def _notes(file: JsonFile) -> tuple[str, ...]:
    """That tracks are lost, if the images are frames of videos."""
    known = recognise(file.sample())
    if known is None or not known.has_stills:
        return ()
    lost = "each image is trained as a still picture, without its tracks"
    return (f"is {known.name}: {lost}. To train tracks, {known.fix}",)


def _labels(file: JsonFile, categories: Sequence[Category], names: Names) -> dict[int, int]:
    """COCO category id -> label, -1 for a class that is not wanted."""
    wanted = {plain(category.name): label for label, category in enumerate(categories)}
    targets = {plain(coco): wanted[plain(name)] for coco, name in names.items() if plain(name) in wanted}
    labels = {category.id: targets.get(plain(category.name), -1) for category in read_categories(file)}
    if not any(label >= 0 for label in labels.values()):
        problem = f"no class is one of {', '.join(sorted(targets)[:5]) or 'the wanted ones'}"
        raise DataError(problem, file=file.source, key="categories", fix="correct the names of the classes")
    return labels


def _read_images(file: JsonFile, store: Store) -> dict[int, int]:
    """The row of each image by its id."""
    for key, entry in file.objects("images"):
        name = get(entry, "file_name", str, file.source, key)
        check_file_name(name, file.source, f"{key}.file_name")
        store.add_video(get(entry, "id", int, file.source, key), *read_size(entry, file.source, key), [name])
    ids = store.video_table[:, 0]
    check_unique(ids, "images", file.source)
    return {image_id: row for row, image_id in enumerate(ids.tolist())}


def _read_tracks(file: JsonFile, store: Store, rows: Mapping[int, int], labels: Mapping[int, int]) -> None:
    sizes, ids = store.video_table[:, 1:3].tolist(), array("q")
    for place, (key, entry) in enumerate(file.objects("annotations")):
        row = reference(entry, "image_id", rows, file.source, key)
        label = reference(entry, "category_id", labels, file.source, key)
        crowd = read_crowd(entry, file.source, key)
        ids.append(get(entry, "id", int, file.source, key))
        kind, mask = _read_mask(entry, sizes[row], file.source, key) if label >= 0 else (ABSENT, b"")
        if kind in SEEN:
            store.add_track(ids[-1], label, crowd, row, place, [(kind, mask)])
    check_unique(np.frombuffer(ids, np.int64), "annotations", file.source)
    check_tracks(store, file.source)


def _read_mask(entry: Json, size: tuple[int, int], source: Path, key: str) -> Packed:
    return pack(without_lines(entry.get("segmentation")), *size, source, f"{key}.segmentation")


def without_lines(segmentation: Any) -> Any:
    """A mask without "polygons" of one or two points: COCO has a few, which enclose nothing.

    Three points or more that stand there one by one are kept: together they are a polygon that is written wrongly.
    """
    if not isinstance(segmentation, list) or are_points(segmentation):
        return segmentation
    return [polygon for polygon in segmentation if not _is_line(polygon)]


def _is_line(polygon: Any) -> bool:
    return isinstance(polygon, list) and len(polygon) in (2, 4)
