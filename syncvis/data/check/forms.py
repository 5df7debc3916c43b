"""COCO's images and annotations as the rules know them: videos of one frame in YouTube-VIS format, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syncvis.data.coco import without_lines

Json = Mapping[str, Any]
Place = tuple[str | int, ...]
"""List, index, key, frame ... in a JSON tree."""


@dataclass(frozen=True)
class Form:
    """What a file calls the things that the rules call as YouTube-VIS does.

    Attributes:
        video: a video, in words.
        names: its keys, where they are not those of YouTube-VIS.
        is_still: videos are of one frame; what would be a list with an entry per frame stands there by itself.
    """

    video: str = "video"
    names: Mapping[str, str] | None = None
    is_still: bool = False

    @staticmethod
    def of(raw: Json) -> Form:
        """The form of a file."""
        return COCO if "images" in raw and "videos" not in raw else YOUTUBE_VIS

    def key(self, name: str) -> str:
        """The file's name for a key."""
        return (self.names or {}).get(name, name)

    def place(self, path: Place) -> Place:
        """Where the file has what the rules see at ``path``."""
        kept = path[:3] + path[4:] if self.is_still else path
        return tuple(self.key(part) if isinstance(part, str) else part for part in kept)

    def title(self, text: str) -> str:
        """A sentence about videos as one about what the file has."""
        return text.replace("a video", "an image").replace("video", self.video) if self.is_still else text

    def entry(self, name: str, raw: Json) -> Json:
        """An entry of the list that the rules call ``name``, as they know it; only keys that COCO's reader reads."""
        if not self.is_still or name == "categories":
            return raw
        if name == "videos":
            return _renamed(raw, id="id", height="height", width="width") | {"file_names": [raw.get("file_name")]}
        seen = _renamed(raw, id="id", video_id="image_id", category_id="category_id", iscrowd="iscrowd")
        seen["segmentations"] = [without_lines(raw.get("segmentation"))]
        return seen | {name: [value] for name, value in _renamed(raw, bboxes="bbox", areas="area").items()}


def _renamed(raw: Json, **keys: str) -> dict[str, Any]:
    return {name: raw[key] for name, key in keys.items() if key in raw}


YOUTUBE_VIS = Form()
COCO = Form(
    "image",
    {
        "videos": "images",
        "video_id": "image_id",
        "file_names": "file_name",
        "segmentations": "segmentation",
        "bboxes": "bbox",
        "areas": "area",
    },
    is_still=True,
)
