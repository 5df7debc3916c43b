"""Reading video frames, with a bounded cache of decoded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from syncvis.data.video_file import VideoFiles, split_name
from syncvis.errors import DataError

Frame = NDArray[np.uint8]

# Of what Pillow knows; some of its other formats start programs or read other files.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
        _check_size((frame.shape[1], frame.shape[0]), height, width, self.root / name)
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
        pass
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"the frame cannot be read ({getattr(error, 'strerror', None) or error})"
    raise DataError(problem, file=path, fix=fix)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as the picture is shown, from its header."""
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


def to_rgb(image: Image.Image) -> Frame:
    """(H, W, 3) uint8 RGB, upright as its EXIF data say (as OpenCV and detectron2 do); of 16 bits the upper 8.

    Raises:
        ValueError: Its pixels are floating-point numbers, of which nobody knows what is white.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    orientation = _orientation(image)
    if image.mode.startswith("I"):  # Pillow would make everything above 255 white
        image = Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
    if orientation > 1:
        image = image.transpose(_TURNS[orientation])
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """By EXIF, 1 (upright) to 8; of a PNG Pillow would have to decode the pixels first."""
    try:
        found = 1 if image.format == "PNG" else image.getexif().get(_ORIENTATION)
    except Exception:  # whatever damaged EXIF data lead to; the picture itself may be whole
        found = 1
    return found if found in _TURNS else 1


def _read_image(path: Path, height: int, width: int) -> Frame:
    """The size is that of the header, so a picture that is too large is never decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(upright_size(image)[::-1], height, width, path)
            image.decodermaxblock = MAX_BLOCK
            return to_rgb(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        problem = "the frame is not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = f"the frame is larger than its video, {height} x {width}"
    except Exception as error:  # decoders raise anything on damaged files
        problem = f"the frame is damaged ({' '.join(str(error).split())[:200]})"
    raise DataError(problem, file=path, fix="copy or extract the frame again")


def _check_size(size: tuple[int, int], height: int, width: int, path: Path) -> None:
    if size != (width, height):
        problem = f"the frame is {size[1]} x {size[0]} pixels, its video {height} x {width} (height x width)"
        raise DataError(problem, file=path, fix="give frames, masks and video one size")
