"""Frames of video files by number, read with PyAV.

A frame of a video file has a name like any other: ``clips/a.mp4#17`` is the 18th frame of ``clips/a.mp4``.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from syncvis.data.turns import Turn, size_problem, turn_of_frame
from syncvis.data.video_remarks import Packet, cut, moving, other_pictures, read_packets
from syncvis.errors import DataError
from syncvis.ops.masks import MAX_FRAME_PIXELS

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".flv", ".wmv"}

# Only containers: a playlist could make FFmpeg read other files, or fetch them.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf",
}
# Up to here the frames before the wanted one are decoded; further ahead the file is searched for a key frame.
_NEAR = 32


def is_video_file(name: str) -> bool:
    """Whether a file is named like a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def frame_names(name: str, length: int) -> list[str]:
    """The names of the frames of a video file."""
    return [f"{name}#{t}" for t in range(length)]


def split_name(name: str) -> tuple[str, int | None]:
    """File and number of a frame; an image file has no number."""
    file, _, number = name.rpartition("#")
    if is_video_file(file) and number.isascii() and number.isdigit() and len(number) < 10:
        return file, int(number)
    return name, None


def count_frames(path: Path) -> int:
    """How many frames a video file has, without decoding them; looked at once in a process.

    Raises:
        DataError: It cannot be read.
    """
    try:
        state = path.stat()
    except OSError as error:
        problem = f"cannot be read as a video ({error.strerror})"
        raise DataError(problem, file=path, fix="copy or encode the video again") from None
    return _count(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _count(path: Path, _size: int, _changed: int) -> int:
    file = VideoFile(path)
    file.close()
    return len(file)


class VideoFile:
    """An open video file, whose frames are decoded when they are asked for; fastest in ascending order.

    Frames are those that a player shows: of the first track of moving pictures, turned by its display matrix.

    Attributes:
        remarks: what a user should know of the file, beside how it is turned, which is in ``turn``.

    Raises:
        DataError: It cannot be read as a video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._container = av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace")
            self._stream = _pictures(self._container)
            packets = read_packets(self._container, self._stream)
            self._times = _frame_times(self._container, self._stream, packets)
            self.remarks = (*other_pictures(self._container), *cut(self._container, self._stream, packets, self._times))
        except (FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(getattr(error, "strerror", None) or error) from None
        if not len(self):
            raise DataError("has no frames", file=path, fix="give a video with at least one frame")
        self._next = len(self)  # so that the first frame is searched for
        self._decoded: Iterator[tuple[int, Any]] = iter(())
        self._reformatter = VideoReformatter()

    def __len__(self) -> int:
        return len(self._times)

    @cached_property
    def turn(self) -> Turn:
        """How a player turns the frames; the first that can be decoded tells.

        Raises:
            DataError: None can be decoded.
        """
        with self._readable("first frame"):
            self._search(0)
            _, frame = self._forward(0)
            if frame is None:
                raise ValueError("it cannot be decoded")
            return turn_of_frame(frame)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as a player shows them.

        Raises:
            DataError: No frame can be decoded.
        """
        return self.turn.size(*self._stored_size)

    @property
    def _stored_size(self) -> tuple[int, int]:
        return self._stream.codec_context.height, self._stream.codec_context.width

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def read(self, index: int, height: int, width: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, turned as a player does.

        Raises:
            DataError: The video is shorter, damaged there, or not ``height`` x ``width``.
        """
        if index >= len(self):
            problem = f"has {len(self)} frames, so none with number {index}"
            raise DataError(problem, file=self.path, fix="correct the video's length in the JSON")
        if sorted(self._stored_size) != sorted((height, width)):
            self._check_size(self.size, (height, width), self.turn)
        with self._readable(f"frame {index}"):
            frame = self._frame(index)
            turn = turn_of_frame(frame)
            self._check_size(turn.size(frame.height, frame.width), (height, width), turn)
            return turn.apply(self._rgb(frame))

    def _rgb(self, frame: Any) -> NDArray[np.uint8]:
        """(H, W, 3) as stored, with no thread: a forked process that frees a converter would wait for its threads."""
        return np.asarray(self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (FFmpegError, OSError, ValueError) as error:
            self._next = len(self)
            raise self._unreadable(f"{what}: {getattr(error, 'strerror', None) or error}") from None

    def _frame(self, index: int) -> Any:
        if not self._next <= index <= self._next + _NEAR:
            self._search(index)
        number, frame = self._forward(index)
        if number != index:  # the search may end behind it
            self._search(0)
            number, frame = self._forward(index)
        if number != index:
            raise ValueError("it is missing")
        return frame

    def _forward(self, index: int) -> tuple[int, Any]:
        """Frames come in the order in which they are shown, so the first that is not before the wanted one is it."""
        for number, frame in self._decoded:
            if number >= index:
                self._next = number + 1
                return number, frame
        return -1, None

    def _search(self, index: int) -> None:
        """Go to the last key frame before a frame."""
        time = int(self._times[index]) if index else min(0, int(self._times[0]))
        self._container.seek(time, stream=self._stream, backward=True)
        self._decoded = self._numbered()

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        for frame in self._container.decode(self._stream):
            number = -1 if frame.pts is None else int(np.searchsorted(self._times, frame.pts))
            if 0 <= number < len(self) and self._times[number] == frame.pts:
                yield number, frame

    def _check_size(self, found: tuple[int, int], wanted: tuple[int, int], turn: Turn) -> None:
        if found != wanted:
            why, fix = size_problem(found, wanted, turn, "the display matrix")
            sides = f"{found[0]} x {found[1]} pixels, not {wanted[0]} x {wanted[1]} (height x width)"
            raise DataError(f"its frames are {sides}{why}", file=self.path, fix=fix)

    def _unreadable(self, problem: object) -> DataError:
        text = " ".join(str(problem).split())
        return DataError(f"cannot be read as a video ({text})", file=self.path, fix="copy or encode the video again")


def _pictures(container: Any) -> Any:
    """The first track of moving pictures, ready to decode."""
    for stream in moving(container):
        context = stream.codec_context
        if context is None or context.height * context.width > MAX_FRAME_PIXELS:
            raise ValueError("no decoder knows it" if context is None else f"over {MAX_FRAME_PIXELS} pixels")
        # Threads of a decoder would not be there in a process that is forked from this one.
        context.thread_count = 1
        return stream
    raise ValueError("its only picture is a cover" if container.streams.video else "it has no pictures")


def _frame_times(container: Any, stream: Any, packets: Sequence[Packet]) -> NDArray[np.int64]:
    """(T,) when each frame is shown, in the stream's unit of time."""
    times = [packet.pts for packet in packets if not packet.is_discard]
    if None in times:  # some old containers know them only after decoding
        container.seek(0, stream=stream)
        times = [frame.pts for frame in container.decode(stream)]
    if None in times:
        raise ValueError("its frames have no times")
    return np.unique(np.array(times, np.int64))


class VideoFiles:
    """The video files that a process has open, the latest few of them."""

    def __init__(self, most: int = 8) -> None:
        self._most, self._process = most, os.getpid()
        self._open: OrderedDict[Path, VideoFile] = OrderedDict()

    def __reduce__(self) -> tuple[type[VideoFiles], tuple[int]]:
        """A copy in another process starts with no file open."""
        return VideoFiles, (self._most,)

    def __getitem__(self, path: Path) -> VideoFile:
        """The open file.

        Raises:
            DataError: It cannot be read as a video.
        """
        if self._process != os.getpid():  # a forked process would move the place in the file of the other
            self._process, self._open = os.getpid(), OrderedDict()
        if path not in self._open:
            self._open[path] = VideoFile(path)
            if len(self._open) > self._most:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]
