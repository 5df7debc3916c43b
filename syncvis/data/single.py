"""One video without annotations, from a folder of frames or a video file, as a data set of one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from syncvis.data.frames import Frame, FrameReader
from syncvis.data.ytvis import Category, Video, VideoDataset
from syncvis.errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


class DecodedFrames:
    """Frames of a video file, kept in memory; reads like a FrameReader."""

    def __init__(self, frames: dict[str, Frame]) -> None:
        self.frames = frames

    def read(self, name: str, height: int, width: int) -> Frame:
        """(H, W, 3) uint8 RGB."""
        return self.frames[name]


def open_video(source: Path, categories: Iterable[Category], max_frames: int) -> VideoDataset:
    """A data set whose only video is ``source``.

    Args:
        source: A folder of images, taken in the order of their names, or a video file.
        categories: What a model may find in it.
        max_frames: Longer videos are refused, because all frames are decoded at once.

    Raises:
        DataError: There is nothing to read, too much of it, or it is damaged.
    """
    if source.is_dir():
        names, size = _frames_of_folder(source)
        reader: FrameReader | DecodedFrames = FrameReader(source)
    else:
        reader = DecodedFrames(_decode(source, max_frames))
        names, size = tuple(reader.frames), next(iter(reader.frames.values())).shape[:2]
    if len(names) > max_frames:
        raise DataError(f"has {len(names)} frames", file=source, fix=f"raise --max-frames above {max_frames}")
    return VideoDataset(source, tuple(categories), (Video(1, *size, names),), "", reader)


def _frames_of_folder(folder: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
    names = tuple(sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES))
    if not names:
        raise DataError("has no images", file=folder, fix="give a folder of .jpg or .png frames, or a video file")
    try:
        with Image.open(folder / names[0]) as image:
            return names, (image.height, image.width)
    except (OSError, UnidentifiedImageError):
        raise DataError("is not an image", file=folder / names[0], fix="extract the frame again") from None


def _decode(source: Path, max_frames: int) -> dict[str, Frame]:
    frames: dict[str, Frame] = {}
    try:
        with av.open(str(source)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index >= max_frames:
                    raise DataError("is longer than allowed", file=source, fix=f"raise --max-frames above {max_frames}")
                frames[f"{source.name}/{index:05d}"] = np.asarray(frame.to_ndarray(format="rgb24"))
    except (FFmpegError, OSError, IndexError) as error:
        problem = f"cannot be read as a video ({getattr(error, 'strerror', None) or error})"
        raise DataError(problem, file=source, fix="give a video file or a folder of frames") from None
    if not frames:
        raise DataError("has no frames", file=source, fix="give a video with at least one frame")
    return frames
