"""One video without annotations, from a folder of frames or a video file, as a data set of one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from syncvis.data.frames import FORMATS, FrameReader, upright_size
from syncvis.data.video_file import VIDEO_SUFFIXES, VideoFile, frame_names, is_video_file
from syncvis.data.ytvis import Category, Video, VideoDataset
from syncvis.errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def open_video(source: Path, categories: Iterable[Category], max_frames: int) -> VideoDataset:
    """A data set whose only video is ``source``.

    Args:
        source: A folder of images, taken in the order of their names, or a video file.
        categories: What a model may find in it.
        max_frames: Longer videos are refused.

    Raises:
        DataError: There is nothing to read, too much of it, or it is damaged.
    """
    source = source.resolve()
    names, size = _frames_of_folder(source) if source.is_dir() else _frames_of_file(source)
    if len(names) > max_frames:
        problem = f"is longer than allowed: has {len(names)} frames"
        raise DataError(problem, file=source, fix=f"raise --max-frames above {max_frames}")
    # Frames are read in order and each once, so none is kept.
    reader = FrameReader(source if source.is_dir() else source.parent, cache_bytes=0)
    return VideoDataset(source, tuple(categories), (Video(1, *size, names),), "", reader)


def _frames_of_folder(folder: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
    names = tuple(sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES))
    if not names:
        raise DataError("has no images", file=folder, fix="give a folder of .jpg or .png frames, or a video file")
    try:
        with Image.open(folder / names[0], formats=FORMATS) as image:
            return names, upright_size(image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        raise DataError("is not an image", file=folder / names[0], fix="extract the frame again") from None


def _frames_of_file(source: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
    if not is_video_file(source.name):
        fix = f"give a file of one of {', '.join(sorted(VIDEO_SUFFIXES))}, or a folder of frames"
        raise DataError("cannot be read as a video (it is not named like one)", file=source, fix=fix)
    file = VideoFile(source)
    file.close()
    return tuple(frame_names(source.name, len(file))), file.size
