"""Frames with instances on top, large enough to read: a tag on each track, absent ones named in the caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from syncvis.data.ytvis import Video, VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle
from syncvis.structures import RLE, Track, VideoPrediction
from syncvis.visualization import Masks, Pixels, overlay, track_colour

CAPTION = 18
"""Height of the caption above a picture, in pixels."""

_FONT = ImageFont.load_default(12)
_INK, _PAPER, _GREY, _PAD, _TAG = (20, 20, 20), (255, 255, 255), (110, 110, 110), 3, 15

Box = tuple[float, float, float, float]
Tag = tuple[str, tuple[int, int, int]]  # text and colour


@dataclass(frozen=True)
class Predictions:
    """The tracks of a results.json, to be drawn from ``min_score`` on."""

    source: Path
    by_video: Mapping[int, VideoPrediction]
    min_score: float


@dataclass(frozen=True)
class Layer:
    """Tracks of one video.

    Attributes:
        title: says what they are.
        ids: G numbers, the tracks' colours and tags.
        names: G categories.
        masks: frame index -> (G, H, W) bool.
    """

    title: str
    ids: Sequence[int]
    names: Sequence[str]
    masks: Callable[[int], Masks]

    def __str__(self) -> str:
        tracks = ", ".join(f"{i} {name}" for i, name in zip(self.ids, self.names, strict=True))
        return f"{self.title}: {tracks or 'no instances'}"

    def tags(self, full: bool) -> list[Tag]:
        """One for each track: its id, and if ``full`` also its category."""
        named = zip(self.ids, self.names, strict=True)
        return [(f"{i} {name}" if full else str(i), track_colour(i)) for i, name in named]


def layers(dataset: VideoDataset, video: Video, predictions: Predictions | None) -> list[Layer]:
    """The annotation, and below it the predictions if there are any; an unlabelled video shows predictions only.

    Raises:
        DataError: A prediction has another number of frames than the video.
    """
    if predictions is None:
        return [_annotated(dataset, video)]
    found = _predicted(dataset, video, predictions)
    return [_annotated(dataset, video), found] if video.tracks else [found]


def _annotated(dataset: VideoDataset, video: Video) -> Layer:
    names = [dataset.categories[track.label].name for track in video.tracks]
    ids = [track.id for track in video.tracks]
    return Layer("annotated", ids, names, lambda t: _stack([track.mask(t) for track in video.tracks], video))


def _predicted(dataset: VideoDataset, video: Video, predictions: Predictions) -> Layer:
    """Tracks are numbered from 1, best first."""
    where = f"{predictions.source}: prediction for video {video.id}"
    found = predictions.by_video.get(video.id, VideoPrediction(video.id, ()))
    tracks = [track for track in found.tracks if track.score >= predictions.min_score]
    for track in tracks:
        _check_length(track, video, where)
    names = [f"{dataset.categories[track.label].name} {track.score:.2f}" for track in tracks]

    def masks(t: int) -> Masks:
        return _stack([_decode(track.masks[t], video, where) for track in tracks], video)

    return Layer(f"predicted >= {predictions.min_score:g}", range(1, len(tracks) + 1), names, masks)


def _check_length(track: Track, video: Video, where: str) -> None:
    if len(track.masks) != len(video):
        problem = f"{len(track.masks)} masks for {len(video)} frames"
        raise DataError(problem, file=where, fix="draw the results of this split's own videos")


def _decode(mask: RLE | None, video: Video, where: str) -> Masks:
    if mask is None:
        return np.zeros((video.height, video.width), bool)
    return rle.decode(mask, video.height, video.width, where)


def _stack(masks: Sequence[Masks], video: Video) -> Masks:
    return np.array(masks, bool).reshape(len(masks), video.height, video.width)


def panel(frame: Pixels, layer: Layer, t: int, height: int, full_tags: bool) -> Pixels:
    """One frame with its tracks.

    Args:
        frame: (H, W, 3) uint8 RGB, of frame index ``t``.
        height: of the picture, without the caption.
        full_tags: Tags say the category too, not the id alone, and the caption what the tracks are.

    Returns:
        (CAPTION + height, about W * height / H, 3) uint8 RGB; the caption names the frame and the absent tracks.
    """
    size = max(1, round(frame.shape[1] * height / len(frame))), height
    original = layer.masks(t)
    seen = [bool(mask.any()) for mask in original]
    here, absent = (list(compress(layer.tags(full_tags), kept)) for kept in (seen, [not there for there in seen]))
    masks = _stack_resized(original[seen], size)
    picture = Image.fromarray(overlay(_resized(frame, size), masks, list(compress(layer.ids, seen))))
    _draw_tags(picture, masks, here)
    sheet = Image.new("RGB", (size[0], CAPTION + height), _PAPER)
    sheet.paste(picture, (0, CAPTION))
    _draw_caption(sheet, f"{layer.title}, frame {t}" if full_tags else f"frame {t}", absent)
    return np.asarray(sheet)


def _resized(frame: Pixels, size: tuple[int, int]) -> Pixels:
    """Pixels stay sharp when enlarged."""
    how = Image.Resampling.NEAREST if size[1] >= len(frame) else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(frame).resize(size, how))


def _stack_resized(masks: Masks, size: tuple[int, int]) -> Masks:
    resized = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
    return np.array(resized, bool).reshape(len(masks), size[1], size[0])


def _draw_tags(picture: Image.Image, masks: Masks, tags: Sequence[Tag]) -> None:
    """A tag in the middle of each mask, or below tags that are there already."""
    draw, taken = ImageDraw.Draw(picture), list[Box]()
    for mask, tag in zip(masks, tags, strict=True):
        rows, columns = np.nonzero(mask)
        if not len(rows):  # vanished when the frame was made smaller
            continue
        middle = len(rows) // 2
        width = _width(tag[0])
        left = min(max(0.0, float(np.median(columns)) - width / 2), max(0.0, picture.width - width))
        top = min(max(0.0, float(rows[middle]) - _TAG / 2), picture.height - _TAG)
        top = min(_free_top(left, left + width, top, taken), picture.height - _TAG)
        taken.append((left, top, left + width, top + _TAG))
        _draw_tag(draw, taken[-1], tag)


def _free_top(left: float, right: float, top: float, taken: Sequence[Box]) -> float:
    """Where a tag goes that would stand at ``top``: below those that it would cover."""
    for other in sorted(taken, key=lambda box: box[1]):
        if left < other[2] and other[0] < right and top < other[3] and other[1] < top + _TAG:
            top = other[3]
    return top


def _draw_tag(draw: ImageDraw.ImageDraw, box: Box, tag: Tag) -> None:
    text, colour = tag
    draw.rectangle(box, fill=colour, outline=_INK)
    draw.text((box[0] + _PAD, box[1]), text, fill=_ink_on(colour), font=_FONT)


def _ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Dark on light colours, light on dark ones."""
    red, green, blue = colour
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else _PAPER


def _width(text: str) -> float:
    return _FONT.getlength(text) + 2 * _PAD


def _draw_caption(sheet: Image.Image, text: str, absent: Sequence[Tag]) -> None:
    """The text and a tag for each absent track, as many as fit; dots stand for the rest."""
    draw = ImageDraw.Draw(sheet)
    draw.text((_PAD, 1), f"{text}   absent:" if absent else text, fill=_GREY, font=_FONT)
    left = _width(f"{text}   absent:") + _PAD
    for index, tag in enumerate(absent):
        room = sheet.width - left - (0 if index == len(absent) - 1 else _width("..."))
        if _width(tag[0]) > room:
            draw.text((left, 1), "...", fill=_GREY, font=_FONT)
            return
        _draw_tag(draw, (left, 1, left + _width(tag[0]), 1 + _TAG), tag)
        left += _width(tag[0]) + _PAD
