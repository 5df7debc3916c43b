"""Text broken into lines that fit a figure, measured in the font that is drawn."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

FAMILY = "DejaVu Sans"
POINTS = 72
"""In an inch."""
LINE = 1.3
"""Height of a line, in font sizes."""


def wrapped(text: str, inches: float, size: float) -> str:
    """The text in lines no wider than ``inches``; a word that is wider is broken.

    Args:
        size: of the font, in points.
    """
    width, lines = inches * POINTS, [""]
    for word in text.split():
        for piece in _pieces(word, width, size):
            line = f"{lines[-1]} {piece}".strip()
            if lines[-1] and _width(line, size) > width:
                lines.append(piece)
            else:
                lines[-1] = line
    return "\n".join(lines)


def height(text: str, size: float) -> float:
    """Inches that the lines of a text take."""
    return (text.count("\n") + 1) * LINE * size / POINTS


def _pieces(word: str, width: float, size: float) -> Iterator[str]:
    while len(word) > 1 and _width(word, size) > width:
        end = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or _width(word[:n], size) <= width)
        yield word[:end]
        word = word[end:]
    yield word


def _width(text: str, size: float) -> float:
    font = FontProperties(family=FAMILY, size=size)
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0])
