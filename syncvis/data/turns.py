"""How pictures and videos are turned when they are shown: by the EXIF data of a picture, the display matrix of a video.

Nobody sees the pixels as they are stored, so sizes and masks are of the turned picture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION = 0x0112  # EXIF


class Turn(NamedTuple):
    """First rows and columns change places (``transposed``), then rows and columns may be put in reverse order."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the turned picture."""
        return (width, height) if self.transposed else (height, width)

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as stored -> as shown."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        picture = picture[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return np.ascontiguousarray(picture)


UPRIGHT = Turn()
_BY_ORIENTATION = {
    2: Turn(flip_columns=True),
    3: Turn(flip_rows=True, flip_columns=True),
    4: Turn(flip_rows=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, flip_columns=True),
    7: Turn(True, True, True),
    8: Turn(transposed=True, flip_rows=True),
}


def turn_of_image(image: Image.Image) -> Turn:
    """By EXIF; of a PNG Pillow would have to decode the pixels first."""
    try:
        orientation = 1 if image.format == "PNG" else image.getexif().get(_ORIENTATION)
    except Exception:  # whatever damaged EXIF data lead to; the picture itself may be whole
        return UPRIGHT
    return _BY_ORIENTATION.get(orientation, UPRIGHT) if isinstance(orientation, int) else UPRIGHT


def turn_of_frame(frame: Any) -> Turn:
    """By the display matrix that comes with a decoded frame.

    Raises:
        ValueError: It turns by an angle that is no multiple of 90 degrees.
    """
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return turn_of_matrix(np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]])
    return UPRIGHT


def turn_of_matrix(matrix: NDArray[np.int32]) -> Turn:
    """Of the numbers a, b, c, d in the matrix {a, b, u, c, d, v, x, y, w} of ISO/IEC 14496-12.

    It shows the stored point (p, q), p to the right and q down, at (a p + c q + x, b p + d q + y). How large it
    is shown does not matter here. A matrix of zeros turns nothing.

    Raises:
        ValueError: It turns by an angle that is no multiple of 90 degrees.
    """
    a, b, c, d = map(float, matrix)
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, crossed) > max(straight, crossed) / 100:
        raise ValueError("its display matrix turns it by an angle that is no multiple of 90 degrees")
    return Turn(True, b < 0, c < 0) if crossed > straight else Turn(False, d < 0, a < 0)


def size_problem(found: tuple[int, int], wanted: tuple[int, int], turn: Turn, what: str) -> tuple[str, str]:
    """Why a size is another one, as the end of a sentence (it may be empty), and how to mend it.

    Args:
        found: height and width as shown.
        what: turned the picture: "EXIF" or "the display matrix".
    """
    if turn.transposed and found[::-1] == wanted:
        why = f": turned by {what}, the JSON has the size of the stored pixels"
        return why, f"turn height, width and masks as well, or store the frames turned and without {what}"
    return "", "give frames, masks and video one size"
