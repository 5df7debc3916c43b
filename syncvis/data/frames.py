"""Reading video frames, with a bounded cache of decoded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from syncvis.errors import DataError

Frame = NDArray[np.uint8]


class FrameSource(Protocol):
    """Whatever gives the frames of a data set by name."""

    def read(self, name: str, height: int, width: int) -> Frame:
        """(H, W, 3) uint8 RGB."""
        ...


class FrameReader:
    """Reads the frames below one folder.

    Decoded frames are kept until ``cache_bytes`` are full. Nothing is thrown out again: epochs visit every
    frame equally often, and a cache that replaces its oldest entry would then never be hit.

    Args:
        root: The folder that file names are relative to.
        cache_bytes: Upper bound of the memory of kept frames.
    """

    def __init__(self, root: Path, cache_bytes: int = 256 * 2**20) -> None:
        self.root, self.cache_bytes = root, cache_bytes
        self._kept: dict[str, Frame] = {}
        self._kept_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process starts with an empty cache."""
        return {"root": self.root, "cache_bytes": self.cache_bytes, "_kept": {}, "_kept_bytes": 0}

    def read(self, name: str, height: int, width: int) -> Frame:
        """(H, W, 3) uint8 RGB, read-only.

        Raises:
            DataError: The image is missing, damaged, or not ``height`` x ``width``.
        """
        frame = self._kept.get(name)
        if frame is None:
            frame = _read_image(self.root / name, height, width)
            frame.setflags(write=False)
            if self._kept_bytes + frame.nbytes <= self.cache_bytes:
                self._kept[name] = frame
                self._kept_bytes += frame.nbytes
        return frame


def _read_image(path: Path, height: int, width: int) -> Frame:
    try:
        with Image.open(path) as image:
            _check_size(image.size, height, width, path)
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except FileNotFoundError:
        problem, fix = "the frame is missing", "add the file, or correct file_names in the JSON"
    except UnidentifiedImageError:
        problem, fix = "the frame is not an image", "copy or extract the frame again"
    except Image.DecompressionBombError:
        problem, fix = (
            f"the frame is larger than its video, {height} x {width}",
            "copy or extract the frame again",
        )
    except (OSError, SyntaxError, ValueError) as error:
        problem, fix = f"the frame is damaged ({error})", "copy or extract the frame again"
    raise DataError(problem, file=path, fix=fix)


def _check_size(size: tuple[int, int], height: int, width: int, path: Path) -> None:
    if size != (width, height):
        problem = f"the frame is {size[1]} x {size[0]} pixels, its video {height} x {width} (height x width)"
        raise DataError(problem, file=path, fix="give frames, masks and video one size")
