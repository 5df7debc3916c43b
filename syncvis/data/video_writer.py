"""Pictures as a video file: H.264 or MPEG-4 by PyAV, else an animated GIF."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream
from PIL import Image

from syncvis.errors import ConfigError, StorageError
from syncvis.files import write_atomically
from syncvis.visualization import Pixels

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""Best first; which there are depends on how PyAV was built."""


def write_video(path: Path, pictures: Callable[[], Iterable[Pixels]], fps: int) -> Path:
    """Write pictures of one size.

    Args:
        path: .mp4, .mov, .mkv or .gif.
        pictures: gives the (H, W, 3) uint8 RGB pictures, one or more.

    Returns:
        ``path``, or the same name with .gif where PyAV has no encoder.

    Raises:
        ConfigError: The suffix is none of these.
        StorageError: The file cannot be written.
    """
    kind, codec = FORMATS.get(path.suffix.lower()), encoder()
    if kind is None and path.suffix.lower() != ".gif":
        fix = f"use {', '.join(FORMATS)} or .gif"
        raise ConfigError("is not the name of a video", file="command line", key=str(path), fix=fix)
    if kind is None or codec is None:
        path = path.with_suffix(".gif")
        write_atomically(path, lambda temporary: _write_gif(temporary, pictures(), fps))
    else:
        _encode_to(path, pictures, fps, kind, codec)
    return path


def encoder() -> str | None:
    """The best encoder that PyAV has here."""
    return next((name for name in ENCODERS if name in av.codecs_available), None)


def _encode_to(path: Path, pictures: Callable[[], Iterable[Pixels]], fps: int, kind: str, codec: str) -> None:
    try:
        write_atomically(path, lambda temporary: _encode(temporary, pictures(), fps, kind, codec))
    except FFmpegError as error:
        problem = f"cannot be encoded with {codec} ({error.strerror})"
        raise StorageError(problem, file=path, fix="check the free space, or write a .gif") from None


def _encode(path: Path, pictures: Iterable[Pixels], fps: int, kind: str, codec: str) -> None:
    with av.open(str(path), "w", format=kind) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=fps))
        stream.pix_fmt = "yuv420p"
        for index, picture in enumerate(pictures):
            picture = _even(picture)
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _even(picture: Pixels) -> Pixels:
    """Repeat the last row or column of odd ones: the encoders halve both sides for colour."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded)


def _write_gif(path: Path, pictures: Iterable[Pixels], fps: int) -> None:
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
