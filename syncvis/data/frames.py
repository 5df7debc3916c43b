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
        _check_file(path, self._folder)
        if number is None:
            return _read_image(path, height, width)
        return self._videos[path].read(number, height, width)


def _check_file(path: Path, folder: Path) -> None:
    """Refuse what is missing, no file (reading a pipe could take for ever) or outside the folder."""
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


def _read_image(path: Path, height: int, width: int) -> Frame:
    """The size is that of the header, so a picture that is too large is never decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image.size, height, width, path)
            image.decodermaxblock = MAX_BLOCK
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
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
