"""Looking at frames without trusting their names or their content."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from syncvis.data.check.entries import Size, show
from syncvis.data.check.findings import Problem
from syncvis.data.entries import FRAMES_FOLDER, check_file_name, written_on_windows
from syncvis.data.frames import FORMATS, check_file, to_rgb, upright_size
from syncvis.data.video_file import VideoFiles, split_name
from syncvis.errors import DataError
from syncvis.ops.masks import MAX_FRAME_PIXELS


@dataclass(frozen=True)
class Look:
    """What is known of one frame: its size if it can be read, what is wrong, and a name under which it exists."""

    size: Size | None = None
    problem: Problem | None = None
    better_name: str | None = None


class FrameLooker:
    """Looks at the frames of one folder, at each once.

    Args:
        root: The folder that file names are relative to; None: judge only the names.
        deep: Decode every image, and every frame of a video file, instead of reading headers.
    """

    def __init__(self, root: Path | None, deep: bool = False) -> None:
        self.root, self.deep = root, deep
        self._seen: dict[str, Look] = {}
        self._videos = VideoFiles()

    def look(self, name: Any) -> Look:
        """What is known of the frame; never raises."""
        if not isinstance(name, str):
            return Look(problem=Problem("file-name", f"is {show(name)}, not a file name"))
        if name not in self._seen:
            self._seen[name] = self._look(name)
        return self._seen[name]

    def _look(self, name: str) -> Look:
        problem = name_problem(name)
        if problem is None and self.root is not None:
            size, problem = self._read(name, self.root)
            if problem is None:
                return Look(size)
        movable = problem is not None and problem.code in ("file-name-outside", "missing-frame")
        return Look(problem=problem, better_name=self._better_name(name) if movable else None)

    def _better_name(self, name: str) -> str | None:
        if self.root is None:
            return None
        usable = (other for other in _other_names(name, self.root) if other != name and name_problem(other) is None)
        return next((other for other in usable if os.path.isfile(self.root / split_name(other)[0])), None)

    def _read(self, name: str, root: Path) -> tuple[Size | None, Problem | None]:
        file, number = split_name(name)
        path = root / file
        if (problem := _file_problem(path, root)) or number is None:
            return (None, problem) if problem else _read_file(path, self.deep)
        try:
            video = self._videos[path]
            if number >= len(video):
                return None, Problem("missing-frame", f"{_show_path(path)} has {len(video)} frames")
            if self.deep:
                video.read(number, *video.size)
            return video.size, None
        except DataError as error:
            return None, Problem("unreadable-image", f"{_show_path(path)} {error.problem}")


def name_problem(name: str) -> Problem | None:
    """What is wrong with a file name by itself."""
    path = PureWindowsPath(name)  # knows both kinds of separators and drive letters
    if name.isprintable() and (path.anchor or ".." in path.parts):
        return Problem("file-name-outside", f"{show(name)} leaves the folder of the frames{written_on_windows(name)}")
    try:
        check_file_name(name, Path(), "")
    except DataError:
        return Problem("file-name", f"{show(name)} cannot be a file name")
    return None


def _other_names(name: str, root: Path) -> Iterator[str]:
    """What a wrong name may have meant: with other separators, below the frames' folder, without '..'."""
    name = os.path.normpath(name.replace("\\", "/"))
    yield name
    yield name.rpartition(f"{FRAMES_FOLDER}/")[2]
    if os.path.isabs(name):
        yield os.path.relpath(name, root.absolute())


def _file_problem(path: Path, root: Path) -> Problem | None:
    """What is wrong with a file before it is opened."""
    try:
        check_file(path, root.resolve())
    except DataError as error:
        if not os.path.lexists(path):
            return Problem("missing-frame", f"there is no file {_show_path(path)}")
        code = "unreadable-image" if path.resolve().is_relative_to(root.resolve()) else "file-name-outside"
        return Problem(code, f"{_show_path(path)}: {error.problem}")
    return None


def _read_file(path: Path, deep: bool) -> tuple[Size | None, Problem | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read_image(path, deep)
    except UnidentifiedImageError:
        reason = "not an image"
    except Image.DecompressionBombError:
        return None, Problem("image-bomb", f"{_show_path(path)} has more than {MAX_FRAME_PIXELS} pixels")
    except Exception as error:  # decoders of damaged images raise whatever they stumble over
        reason = show(str(error))
    return None, Problem("unreadable-image", f"{_show_path(path)} cannot be read ({reason})")


def _show_path(path: Path) -> str:
    return show(str(path), most=300)


def _read_image(path: Path, deep: bool) -> tuple[Size | None, Problem | None]:
    with Image.open(path, formats=FORMATS) as image:
        height, width = upright_size(image)
        if height * width > MAX_FRAME_PIXELS:
            text = f"{_show_path(path)} is {height} x {width}, over {MAX_FRAME_PIXELS} pixels"
            return None, Problem("image-bomb", text)
        if deep:
            to_rgb(image)
        elif image.mode == "F":
            raise ValueError("its pixels are floating-point numbers")
    return (height, width), None
