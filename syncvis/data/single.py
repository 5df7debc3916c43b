"""One video without annotations, from a folder of frames or a video file, as a data set of one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from syncvis.data.frame_folder import KINDS, FrameFolder
from syncvis.data.frames import FrameReader
from syncvis.data.turns import UPRIGHT
from syncvis.data.video_file import VIDEO_SUFFIXES, VideoFile, frame_names, is_video_file
from syncvis.data.video_remarks import Remark
from syncvis.data.ytvis import Category, Video, VideoDataset
from syncvis.errors import DataError, one_line

Say = Callable[[str], None]


def say_on_stderr(line: str) -> None:
    """So that stdout holds nothing but results."""
    print(line, file=sys.stderr)


def open_video(source: Path, categories: Iterable[Category], max_frames: int, say: Say = say_on_stderr) -> VideoDataset:
    """A data set whose only video is ``source``.

    Args:
        source: A folder of images, taken in the natural order of their names (2 before 10), or a video file.
        categories: What a model may find in it.
        max_frames: Longer videos are refused.
        say: Is told what the user should know: what was passed over, how frames are turned, that a file was cut.

    Raises:
        DataError: There is nothing to read, too much of it, or it is damaged.
    """
    source = source.resolve()
    names, size, remarks = (_frames_of_folder if source.is_dir() else _frames_of_file)(source, max_frames)
    for remark in remarks:
        is_cut = remark.code == "video-cut"
        fix = ". Fix: copy the video again" if is_cut else ""
        say(one_line(f"{'warning' if is_cut else 'note'}: {source}: {remark.text}{fix}"))
    # Frames are read in order and each once, so none is kept.
    reader = FrameReader(source if source.is_dir() else source.parent, cache_bytes=0)
    return VideoDataset(source, tuple(categories), (Video(1, *size, names),), "", reader)


_Opened = tuple[tuple[str, ...], tuple[int, int], list[Remark]]
"""Names of the frames, height and width, remarks."""


def _frames_of_folder(folder: Path, max_frames: int) -> _Opened:
    images = FrameFolder.of(folder)
    _check_length(folder, len(images.names), max_frames)
    size, remarks = images.look()
    return images.names, size, [Remark("frames", text) for text in remarks]


def _frames_of_file(source: Path, max_frames: int) -> _Opened:
    if not is_video_file(source.name):
        if not source.exists():
            fix = "give a folder of frames, or a video file"
            raise DataError("there is no such file or folder", file=source, fix=fix)
        is_image = source.suffix.lower() in {suffix for suffixes in KINDS.values() for suffix in suffixes}
        named = "it is named like an image" if is_image else "it is not named like one"
        fix = f"give a file of one of {', '.join(sorted(VIDEO_SUFFIXES))}, or a folder of frames"
        raise DataError(f"cannot be read as a video ({named})", file=source, fix=fix)
    file = VideoFile(source)
    try:
        _check_length(source, len(file), max_frames)
        names, size, remarks = tuple(frame_names(source.name, len(file))), file.size, list(file.remarks)
        if file.turn != UPRIGHT:
            text = "is turned by its display matrix, as players do; masks are of the turned frames"
            remarks.append(Remark("frames-turned", text))
        return names, size, remarks
    finally:
        file.close()


def _check_length(source: Path, length: int, max_frames: int) -> None:
    if length > max_frames:
        problem = f"is longer than allowed: has {length} frames"
        raise DataError(problem, file=source, fix=f"raise --max-frames above {max_frames}")
