"""Which convention boxes follow that differ from their masks: one guess for the whole file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from syncvis.data.check.entries import is_number
from syncvis.data.check.findings import Finding
from syncvis.data.check.track_rules import beside, box_problem, is_of_mask
from syncvis.data.check.views import Track

Box = tuple[float, float, float, float]

NEARLY_ALL = 0.9
"""Part of the differing boxes that a convention has to explain."""

_SHAPES: dict[str, Callable[[Box], Box]] = {
    "left, top, width, height": lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]),
    "x1, y1, x2, y2": lambda box: box,
    "centre boxes (cx, cy, w, h)": lambda box: (
        box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2,
    ),
    "y1, x1, y2, x2": lambda box: (box[1], box[0], box[3], box[2]),
    "y, x, h, w": lambda box: (box[1], box[0], box[1] + box[3], box[0] + box[2]),
}  # fmt: skip
"""Left, top, right, bottom of a box in each convention; the first is ours."""


class BoxConvention:
    """Sees all tracks of a file."""

    def __init__(self) -> None:
        self._differing, self._explained = 0, Counter[str]()
        self._key = ""

    def see(self, track: Track) -> None:
        """Count the boxes of a track that differ from their masks, and those that other conventions explain."""
        self._key = track.annotation.form.key("bboxes")
        for _, mask, box in beside(track, "bboxes"):
            if mask is None or not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
                continue
            if box_problem(mask, box) is not None:
                self._differing += 1
                height, width = mask.rle["size"]
                readings = _readings((box[0], box[1], box[2], box[3]), height, width)
                self._explained.update(name for name, edges in readings if is_of_mask(edges, mask))

    def findings(self) -> Iterator[Finding]:
        """One, if nearly all differing boxes are explained by one other convention."""
        (name, count), (_, second) = [*self._explained.most_common(2), ("", 0), ("", 0)][:2]
        if count >= max(2, NEARLY_ALL * self._differing) and count > second:
            some = "all" if count == self._differing else f"{count} of the"
            text = f"{some} {self._differing} boxes that differ from their masks look like {name}"
            yield Finding("box-convention", self._key, f"{text}, not left, top, width, height in pixels")


def _readings(box: Box, height: int, width: int) -> Iterator[tuple[str, Box]]:
    shapes = list(_SHAPES.items())
    yield from ((name, shape(box)) for name, shape in shapes[1:])
    if max(box) <= 1:
        for name, shape in shapes[:3]:
            left, top, right, bottom = shape(box)
            yield f"{name} as parts of the frame (0 to 1)", (left * width, top * height, right * width, bottom * height)
