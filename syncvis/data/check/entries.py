"""The raw JSON seen as entries: everything may be missing or of another kind, so nothing is taken for granted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from syncvis.data.check.findings import Edit, Finding, Mend
from syncvis.data.check.forms import YOUTUBE_VIS, Form, Place
from syncvis.ops.masks import MAX_FRAME_PIXELS

Json = Mapping[str, Any]
Size = tuple[int, int]
"""Height and width in pixels."""

LARGEST = 2**63  # as in the readers

NAMES = {"categories": "category", "videos": "video", "annotations": "annotation"}
"""The lists, and what one of their entries is called."""


def identifier(value: Any) -> int | None:
    """The value, if it can be an id."""
    return value if type(value) is int and abs(value) < LARGEST else None


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number of usable size: not NaN, not infinite, not hundreds of digits."""
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def show(value: Any, most: int = 80) -> str:
    """A value from the file in a message: at most ``most`` characters, on one line, in ASCII."""
    if isinstance(value, list):
        short = len(value) <= 4 and not any(isinstance(item, list | Mapping) for item in value)
        return f"[{', '.join(map(show, value))}]" if short else f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "an object"
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


@dataclass(frozen=True)
class Entry:
    """An object of one of the top-level lists, named and laid out as in YouTube-VIS; ``form`` is that of its file."""

    list: str
    index: int
    raw: Json
    form: Form = YOUTUBE_VIS

    @property
    def id(self) -> int | None:
        return identifier(self.raw.get("id"))

    def key(self, *path: str | int) -> str:
        """``annotations[3].bboxes[7]``, as the file has it."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self._place(*path))
        return "".join(parts)[1:]

    def _place(self, *path: str | int) -> Place:
        return self.form.place((self.list, self.index, *path))

    def finding(
        self, code: str, text: str, *path: str | int, frame: int | None = None, mend: Mend | None = None
    ) -> Finding:
        """A finding at ``path`` inside this entry."""
        video = identifier({"videos": self.raw.get("id"), "annotations": self.raw.get("video_id")}.get(self.list))
        annotation = self.id if self.list == "annotations" else None
        if self.form.is_still:
            return Finding(code, self.key(*path), text, None, None, annotation, mend, image=video)
        return Finding(code, self.key(*path), text, video, frame, annotation, mend)

    def put(self, value: Any, *path: str | int) -> Mend:
        """Set a value inside this entry."""
        name = self.key(*path).partition(".")[2]
        return Mend(f"set {name} to {show(value)}", (Edit(self._place(*path), value),))

    def drop(self, name: str) -> Mend:
        """Drop this entry."""
        return Mend(f"drop the {name}", (Edit(self._place(), drop=True),))


def entries(raw: Json, name: str) -> tuple[Entry, ...]:
    """The objects of the top-level list that YouTube-VIS calls ``name``; whatever else is in it is left out."""
    form = Form.of(raw)
    values = raw.get(form.key(name))
    values = enumerate(values if isinstance(values, list) else [])
    return tuple(Entry(name, i, form.entry(name, value), form) for i, value in values if isinstance(value, dict))


def video_size(video: Entry) -> Size | None:
    """Height and width, if they are possible."""
    size = [video.raw.get("height"), video.raw.get("width")]
    return (size[0], size[1]) if is_size(size) else None


def is_size(value: Any) -> TypeGuard[list[int]]:
    """Whether it is [height, width] of a frame that can be held in memory."""
    if not isinstance(value, list) or len(value) != 2 or any(type(side) is not int or side < 1 for side in value):
        return False
    return bool(value[0] * value[1] <= MAX_FRAME_PIXELS)


def listed(entry: Entry, name: str) -> list[Any]:
    """A list inside an entry, empty where there is none."""
    value = entry.raw.get(name)
    return value if isinstance(value, list) else []


def by_id(found: Iterable[Entry]) -> dict[int, Entry]:
    """Entries by id; of those that share one, the first."""
    first: dict[int, Entry] = {}
    for entry in found:
        if entry.id is not None:
            first.setdefault(entry.id, entry)
    return first
