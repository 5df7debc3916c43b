"""What all readers of annotation files check: where the frames lie, and the parts that their formats share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from syncvis.data.annotations import Category
from syncvis.data.jsonfile import Json, JsonFile, get, kind_name
from syncvis.data.store import Ints, Store
from syncvis.errors import DataError
from syncvis.ops import masks as rle

FRAMES_FOLDER = "JPEGImages"
MAX_TRACKS = 10_000
"""Of one video."""


def find_frames(root: Path, source: Path, first: str | None) -> Path:
    """The folder with the frames of the JSON file ``source``.

    JPEGImages, or that in a folder named like the split (YouTube-VIS), or the split's folder itself (OVIS, COCO),
    each next to the JSON file or in ``root``. The split of ``annotations_train.json`` and ``instances_train.json``
    is ``train``. Of several the first that has the first frame. If none has it, any folder next to the JSON file or in
    ``root`` that does, and if there is none of them, one of these two: ``train_split.json`` has no folder of its own.

    Args:
        first: file name of the first frame, if it is known.

    Raises:
        DataError: There is none.
    """
    split = source.stem.removeprefix("annotations_").removeprefix("instances_")
    places = (FRAMES_FOLDER, f"{split}/{FRAMES_FOLDER}", split, f"images/{split}", "images", "videos")
    folders = [base / place for place in places for base in (source.parent, root)]
    usual = [folder for folder in folders if folder.is_dir()]
    if first is not None:
        bases = () if usual else (source.parent, root)
        for folder in chain(usual, _folders_in(source.parent), _folders_in(root), bases):
            if os.path.exists(folder / first):
                return folder
    if usual:
        return usual[0]
    problem = "the folder with the frames is missing"
    raise DataError(problem, file=folders[0], fix="put the frames of the videos there")


def _folders_in(base: Path) -> Iterator[Path]:
    """The folders in ``base`` and their JPEGImages."""
    with contextlib.suppress(OSError):
        for folder in sorted(base.iterdir()):
            yield from (folder / FRAMES_FOLDER, folder)


def check_file_name(name: Any, source: Path, key: str) -> None:
    """Refuse a frame's name that leads out of its folder or is no name.

    Raises:
        DataError: It is not a relative path of printable characters without '..'.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"is {kind_name(name)}, not a file name", file=source, key=key, fix="name the frame's file")
    if any(c < " " or "\ud800" <= c <= "\udfff" for c in name):
        raise DataError(f"{name!r} has control characters", file=source, key=key, fix="rename the frame's file")
    path = PureWindowsPath(name)  # knows both kinds of separators and drive letters
    if path.anchor or ".." in path.parts or not path.parts:
        problem, fix = f"{name[:200]!r} leaves the folder {FRAMES_FOLDER}", "use a path relative to that folder"
        if is_of_windows(name):
            problem, fix = f"{problem}: it is written on Windows", f"{fix}, and write '/'"
        raise DataError(problem, file=source, key=key, fix=f"{fix}, without '..'")


def is_of_windows(name: str) -> bool:
    """Whether a file's name is written as on Windows: with backslashes or a drive letter."""
    return "\\" in name or bool(PureWindowsPath(name).drive)


def read_categories(file: JsonFile) -> tuple[Category, ...]:
    """The classes of a file.

    Raises:
        DataError: There are none, or they are damaged.
    """
    categories = tuple(_read_category(entry, file.source, key) for key, entry in file.objects("categories"))
    if not categories:
        raise DataError("there are no categories", file=file.source, key="categories", fix="list every class once")
    check_unique(np.array([category.id for category in categories]), "categories", file.source)
    return categories


def _read_category(entry: Json, source: Path, key: str) -> Category:
    name = get(entry, "name", str, source, key)
    if not name.strip():
        raise DataError("the name is blank", file=source, key=f"{key}.name", fix="give the class a name")
    return Category(get(entry, "id", int, source, key), name)


def read_size(entry: Json, source: Path, key: str) -> tuple[int, int]:
    """Height and width of a video or image.

    Raises:
        DataError: They are missing or no size of a picture.
    """
    height, width = (get(entry, side, int, source, key) for side in ("height", "width"))
    if min(height, width) < 1 or height * width > rle.MAX_FRAME_PIXELS:
        problem = f"size {height} x {width} is not between 1 and {rle.MAX_FRAME_PIXELS} pixels"
        raise DataError(problem, file=source, key=key, fix="correct height and width, or scale the video down")
    return height, width


def check_length(entry: Json, names: Sequence[str], source: Path, key: str) -> None:
    """Refuse a video whose ``length`` is not the number of frames that it lists.

    Raises:
        DataError: It lists none, or another number.
    """
    if not names:
        raise DataError("the video has no frames", file=source, key=f"{key}.file_names", fix="remove the video")
    length = entry.get("length", len(names))
    if type(length) is not int or length != len(names):
        problem = f"length is {length!r:.20}, but file_names lists {len(names)} frames"
        raise DataError(problem, file=source, key=f"{key}.length", fix="give both the same number of frames")


def reference(entry: Json, name: str, known: Mapping[int, int], source: Path, key: str) -> int:
    """What ``known`` has for the id under ``name``.

    Raises:
        DataError: There is no such id.
    """
    value = get(entry, name, int, source, key)
    if value not in known:
        plural = {"video_id": "videos", "image_id": "images"}.get(name, "categories")
        problem = f"{value} is not the id of one of the {plural}"
        raise DataError(problem, file=source, key=f"{key}.{name}", fix=f"correct it, or add the entry to {plural}")
    return known[value]


def read_crowd(entry: Json, source: Path, key: str) -> bool:
    """Whether an annotation is a crowd; one that does not say so is none.

    Raises:
        DataError: ``iscrowd`` is no number, true, false or null: text such as "0" would count as a crowd.
    """
    value = entry.get("iscrowd")
    if not isinstance(value, int | float | None):
        problem = f"is {kind_name(value)}, not 0 or 1"
        raise DataError(problem, file=source, key=f"{key}.iscrowd", fix="write 1 for a crowd, else 0")
    return bool(value)


def read_areas(entry: Json, source: Path, key: str) -> list[float | None] | None:
    """Pixels in each frame, None where the instance is not seen; None for all if the file does not say.

    Raises:
        DataError: ``areas`` is no such list.
    """
    areas = entry.get("areas")
    if areas is None:
        return None
    if not isinstance(areas, list) or not all(a is None or (type(a) in (int, float) and 0 <= a < 2**63) for a in areas):
        fix = "leave the key out, or correct it"
        raise DataError("is not a list of pixels or nulls", file=source, key=f"{key}.areas", fix=fix)
    return areas


def check_tracks(store: Store, source: Path) -> None:
    """Refuse tracks that share an id, and too many of them in one video.

    Raises:
        DataError: There are such.
    """
    tracks = store.track_table
    check_unique(tracks[:, 0], "annotations", source)
    most = int(np.bincount(tracks[:, 3], minlength=1).max())
    if most > MAX_TRACKS:
        problem = f"a video has {most} annotations, over the limit of {MAX_TRACKS}"
        raise DataError(problem, file=source, key="annotations", fix="cut the video into smaller ones")


def check_unique(ids: Ints, name: str, source: Path) -> None:
    """Refuse a list in which an id occurs twice.

    Raises:
        DataError: It does.
    """
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = values[counts > 1][0]
        raise DataError(f"the id {twice} occurs twice", file=source, key=name, fix="give each entry its own id")
