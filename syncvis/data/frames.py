"""Reading video frames, with a bounded cache of decoded ones."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from syncvis.data.turns import UPRIGHT, Turn, size_problem, turn_of_image
from syncvis.data.video_file import VideoFiles, split_name
from syncvis.errors import DataError

Frame = NDArray[np.uint8]

# Of what Pillow knows; some of its other formats start programs or read other files.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

# Bytes that Pillow reads at a time; each block of a JPEG costs some time.
MAX_BLOCK = 2**24


class FrameSource(Protocol):
    """Whatever gives the frames of a data set by name."""

    def read(self, name: str, height: int, width: int) -> Frame:
        """(H, W, 3) uint8 RGB."""
        ...


class FrameReader:
    """Reads the frames below one folder: images, and frames of video files (``clips/a.mp4#17``).

    Decoded frames are kept until ``cache_bytes`` are full. Nothing is thrown out again: epochs visit every
    frame equally often, and a cache that replaces its oldest entry would then never be hit.

    Args:
        root: The folder that file names are relative to.
        cache_bytes: Upper bound of the memory of kept frames.
    """

    def __init__(self, root: Path, cache_bytes: int = 256 * 2**20) -> None:
        self.root, self.cache_bytes = root, cache_bytes
        self._folder = root.resolve()
        self._kept: dict[str, Frame] = {}
        self._kept_bytes = 0
        self._videos = VideoFiles()

    def __reduce__(self) -> tuple[type[FrameReader], tuple[Path, int]]:
        """A copy in another process starts with an empty cache."""
        return FrameReader, (self.root, self.cache_bytes)

    def read(self, name: str, height: int, width: int) -> Frame:
        """(H, W, 3) uint8 RGB, read-only.

        Raises:
            DataError: The frame is missing, damaged, not ``height`` x ``width``, or outside the folder.
        """
        frame = self._kept.get(name)
        if frame is None:
            frame = self._read(name, height, width)
            frame.setflags(write=False)
            if self._kept_bytes + frame.nbytes <= self.cache_bytes:
                self._kept[name] = frame
                self._kept_bytes += frame.nbytes
        _check_size((frame.shape[0], frame.shape[1]), (height, width), self.root / name)
        return frame

    def _read(self, name: str, height: int, width: int) -> Frame:
        file, number = split_name(name)
        path = self.root / file
        check_file(path, self._folder)
        if number is None:
            return _read_image(path, height, width)
        return self._videos[path].read(number, height, width)


def check_file(path: Path, folder: Path) -> None:
    """Refuse what is missing, no file (reading a pipe could take for ever) or outside the folder.

    Args:
        folder: without links, as ``Path.resolve`` gives it.

    Raises:
        DataError: It is one of these.
    """
    problem, fix = "the frame is missing", "add the file, or correct file_names in the JSON"
    try:
        real = path.resolve(strict=True)
        if real.is_file() and real.is_relative_to(folder):
            return
        if real.is_relative_to(folder):
            problem, fix = "the frame is not a file", "copy or extract the frame again"
        else:
            problem, fix = "a link leads out of the folder of the frames", "copy the frame, or link the whole folder"
    except FileNotFoundError:
        if os.sep == "/" and "\\" in path.name:
            problem = "the frame is missing; its name is written on Windows"
            fix = "write '/' between folders, or mend the JSON with `syncvis data check --fix`"
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"the frame cannot be read ({getattr(error, 'strerror', None) or error})"
    raise DataError(problem, file=path, fix=fix)


class Header(NamedTuple):
    """What is known of an image before it is decoded: its size as shown, how it is turned, whether others follow it."""

    size: tuple[int, int]
    turn: Turn
    has_more: bool


def header(image: Image.Image) -> Header:
    """Of an image that was opened but not decoded."""
    width, height = image.size
    turn = turn_of_image(image)
    size = (height, width) if image.format == "TIFF" else turn.size(height, width)  # Pillow has turned that of a TIFF
    return Header(size, turn, _has_more(image))


def _has_more(image: Image.Image) -> bool:
    """Whether an animation or pages follow; what cameras put behind a JPEG is no picture of its own."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # what follows is damaged, and is not read
        return True


def to_rgb(image: Image.Image) -> Frame:
    """(H, W, 3) uint8 RGB, upright as its EXIF data say (as OpenCV and detectron2 do); of 16 bits the upper 8.

    Raises:
        ValueError: Its pixels are floating-point numbers, of which nobody knows what is white.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    image.load()
    turn = turn_of_image(image)  # of a TIFF none is left
    if image.mode.startswith("I"):  # Pillow would make everything above 255 white
        image = Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return pixels if turn == UPRIGHT else turn.apply(pixels)


def read_header(path: Path) -> Header:
    """Of an image file.

    Raises:
        DataError: It is no image, or its header is damaged.
    """
    with _opened(path) as image:
        return header(image)


def _read_image(path: Path, height: int, width: int) -> Frame:
    """The size is that of the header, so a picture that is too large is never decoded."""
    with _opened(path) as image:
        found = header(image)
        _check_size(found.size, (height, width), path, found.turn)
        image.decodermaxblock = MAX_BLOCK
        return to_rgb(image)


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An image whose pixels are not decoded yet; whatever is wrong with it is a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about what a decoder passes over; the picture can be read
            with Image.open(path, formats=FORMATS) as image:
                yield image
        return
    except DataError:
        raise
    except UnidentifiedImageError:
        problem = "the frame is not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = "the frame is larger than any video may be"
    except Exception as error:  # decoders raise anything on damaged files
        problem = f"the frame is damaged ({' '.join(str(error).split())[:200]})"
    raise DataError(problem, file=path, fix="copy or extract the frame again")


def _check_size(found: tuple[int, int], wanted: tuple[int, int], path: Path, turn: Turn = UPRIGHT) -> None:
    if found != wanted:
        why, fix = size_problem(found, wanted, turn, "EXIF")
        sides = f"{found[0]} x {found[1]} pixels, its video {wanted[0]} x {wanted[1]} (height x width)"
        raise DataError(f"the frame is {sides}{why}", file=path, fix=fix)
