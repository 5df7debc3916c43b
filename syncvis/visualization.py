"""Pictures of masks: overlays with one stable colour per track, and contact sheets of them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from syncvis.errors import StorageError

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]

_INK, _PAPER, _GAP, _LINE = (30, 30, 30), (255, 255, 255), 4, 14
_FONT = ImageFont.load_default()


def track_colour(track_id: int) -> tuple[int, int, int]:
    """RGB of a track: the same for the same id in every picture; ids near each other differ most."""
    golden_ratio = 0.618034
    hue, saturation = (track_id * golden_ratio) % 1, (0.9, 0.6)[track_id // 5 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlay(frame: Pixels, masks: Masks, ids: Sequence[int], opacity: float = 0.45) -> Pixels:
    """Tint the pixels of each mask with its track's colour and draw its outline.

    Args:
        frame: (H, W, 3) uint8 RGB.
        masks: (G, H, W) bool; later ones lie on top.
        ids: G track ids.
        opacity: of the tint; outlines are opaque.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    if len(masks) != len(ids) or masks.shape[1:] != frame.shape[:2]:
        raise ValueError(f"masks {masks.shape} do not go with frame {frame.shape} and {len(ids)} ids")
    canvas = frame.astype(np.float64)
    for mask, track_id in zip(masks, ids, strict=True):
        colour = np.array(track_colour(track_id), float)
        canvas[mask] += opacity * (colour - canvas[mask])
        canvas[outline(mask)] = colour
    return canvas.round().astype(np.uint8)


def outline(mask: Masks) -> Masks:
    """(H, W) bool: the pixels of the mask with one of their four neighbours outside it."""
    framed = np.pad(mask, 1)
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    edge: Masks = mask & ~inner
    return edge


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    min_height: int = 160,
    max_height: int = 240,
) -> Image.Image:
    """Lay pictures out in rows, each row with a label above it; small pictures are enlarged.

    Args:
        rows: R rows of (H, W, 3) uint8 pictures; rows may differ in length.
        row_labels: R texts, or none.
        column_labels: texts written above the columns of the first row, or none.
        title: text at the top.
        min_height: pictures are enlarged by the smallest whole factor that makes all this high, in pixels.
    """
    if not rows or not any(rows):
        raise ValueError("a contact sheet needs at least one picture")
    if row_labels and len(row_labels) != len(rows):
        raise ValueError(f"{len(row_labels)} labels for {len(rows)} rows")
    smallest = min(len(picture) for row in rows for picture in row)
    factor = math.ceil(min_height / smallest)
    scaled = [[_scale(picture, factor, max_height) for picture in row] for row in rows]
    labels = row_labels or [""] * len(rows)
    strips = [_strip(row, text) for row, text in zip(scaled, labels, strict=True)]
    column_step = max(picture.shape[1] for row in scaled for picture in row) + _GAP
    strips.insert(0, _text_line(column_labels, column_step))
    strips.insert(0, _text_line([title], 0))
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), _PAPER)
    tops = np.cumsum([0, *(strip.height for strip in strips)])
    for strip, top in zip(strips, tops[:-1], strict=True):
        sheet.paste(strip, (0, int(top)))
    return sheet


def _scale(picture: Pixels, factor: int, max_height: int) -> Pixels:
    if factor > 1 or len(picture) <= max_height:
        return picture.repeat(factor, 0).repeat(factor, 1)
    width = round(picture.shape[1] * max_height / len(picture))
    return np.asarray(Image.fromarray(picture).resize((width, max_height), Image.Resampling.LANCZOS))


def _strip(pictures: Sequence[Pixels], label: str) -> Image.Image:
    """Pictures side by side, below their label."""
    text = _text_line([label], 0)
    lefts = np.cumsum([_GAP, *(picture.shape[1] + _GAP for picture in pictures)])
    height = max((len(picture) for picture in pictures), default=0)
    strip = Image.new("RGB", (max(int(lefts[-1]), text.width), text.height + height + _GAP), _PAPER)
    strip.paste(text, (0, 0))
    for picture, left in zip(pictures, lefts[:-1], strict=True):
        strip.paste(Image.fromarray(picture), (int(left), text.height))
    return strip


def _text_line(texts: Sequence[str], step: int) -> Image.Image:
    """Texts in one line, ``step`` pixels apart; of no height if there is nothing to say."""
    width = max((_GAP + i * step + _FONT.getlength(text) for i, text in enumerate(texts)), default=0)
    line = Image.new("RGB", (math.ceil(width), _LINE if any(texts) else 0), _PAPER)
    for i, text in enumerate(texts):
        ImageDraw.Draw(line).text((_GAP + i * step, 1), text, fill=_INK, font=_FONT)
    return line


def save_png(image: Image.Image | Pixels, path: str | Path) -> Path:
    """Write a picture as PNG; missing folders are made.

    Raises:
        StorageError: The file cannot be written.
    """
    path = Path(path)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, format="PNG")
    except OSError as error:
        problem = f"the picture cannot be written ({error.strerror})"
        raise StorageError(problem, file=path, fix="check the folder's rights and the free space") from None
    return path
