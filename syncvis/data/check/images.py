"""Looking at frames without trusting their names or their content."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from syncvis.data.check.entries import Size, show
from syncvis.data.check.findings import Problem
from syncvis.data.entries import FRAMES_FOLDER, check_file_name, is_of_windows
from syncvis.data.frames import FORMATS, check_file, header, to_rgb
from syncvis.data.turns import UPRIGHT, Turn
from syncvis.data.video_file import VideoFile, VideoFiles, split_name
from syncvis.errors import DataError
from syncvis.ops.masks import MAX_FRAME_PIXELS


@dataclass(frozen=True)
class Look:
    """What is known of one frame.

    Attributes:
        size: as shown, if it can be read.
        problem: what is wrong.
        better_name: a name under which it exists.
        turn, turned_by: how it is turned to be shown, and by what.
        remarks: what is good to know of its file.
    """

    size: Size | None = None
    problem: Problem | None = None
    better_name: str | None = None
    turn: Turn = UPRIGHT
    turned_by: str = ""
    remarks: tuple[Problem, ...] = ()


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
        look = Look(problem=problem) if problem or self.root is None else self._read(name, self.root)
        if look.problem is not None and look.problem.code in ("file-name-outside", "missing-frame"):
            return replace(look, better_name=self._better_name(name))
        return look

    def _better_name(self, name: str) -> str | None:
        if self.root is None:
            return None
        usable = (other for other in _other_names(name, self.root) if other != name and name_problem(other) is None)
        return next((other for other in usable if os.path.isfile(self.root / split_name(other)[0])), None)

    def _read(self, name: str, root: Path) -> Look:
        file, number = split_name(name)
        path = root / file
        if problem := _file_problem(path, root):
            return Look(problem=problem)
        if number is None:
            return _read_file(path, self.deep)
        try:
            return self._read_frame(self._videos[path], number)
        except DataError as error:
            return Look(problem=Problem("unreadable-image", f"{_show_path(path)} {error.problem}"))

    def _read_frame(self, video: VideoFile, number: int) -> Look:
        if number >= len(video):
            return Look(problem=Problem("missing-frame", f"{_show_path(video.path)} has {len(video)} frames"))
        if self.deep:
            video.read(number, *video.size)
        remarks = tuple(Problem(code, f"{_show_path(video.path)} {text}") for code, text in video.remarks)
        return Look(video.size, turn=video.turn, turned_by="the display matrix", remarks=remarks)


def name_problem(name: str) -> Problem | None:
    """What is wrong with a file name by itself."""
    path = PureWindowsPath(name)  # knows both kinds of separators and drive letters
    if name.isprintable() and (path.anchor or ".." in path.parts):
        how = ": it is written on Windows" if is_of_windows(name) else ""
        return Problem("file-name-outside", f"{show(name)} leaves the folder of the frames{how}")
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


def _read_file(path: Path, deep: bool) -> Look:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read_image(path, deep)
    except UnidentifiedImageError:
        reason = "not an image"
    except Image.DecompressionBombError:
        return Look(problem=Problem("image-bomb", f"{_show_path(path)} has more than {MAX_FRAME_PIXELS} pixels"))
    except Exception as error:  # decoders of damaged images raise whatever they stumble over
        reason = show(str(error))
    return Look(problem=Problem("unreadable-image", f"{_show_path(path)} cannot be read ({reason})"))


def _show_path(path: Path) -> str:
    return show(str(path), most=300)


def _read_image(path: Path, deep: bool) -> Look:
    with Image.open(path, formats=FORMATS) as image:
        size, turn, has_more = header(image)
        if size[0] * size[1] > MAX_FRAME_PIXELS:
            text = f"{_show_path(path)} is {size[0]} x {size[1]}, over {MAX_FRAME_PIXELS} pixels"
            return Look(problem=Problem("image-bomb", text))
        if deep:
            to_rgb(image)
        elif image.mode == "F":
            raise ValueError("its pixels are floating-point numbers")
    more = Problem("several-pictures", f"{_show_path(path)} holds several pictures, of which the first is read")
    return Look(size, turn=turn, turned_by="EXIF", remarks=(more,) if has_more else ())
