"""Which class of a video data set a COCO class stands for, by name.

Facts of the id tables COCO_TO_YTVIS_2019, COCO_TO_YTVIS_2021 (SyncVIS, syncvis/data/datasets/ytvis.py) and COCO_TO_OVIS
(VITA, vita/data/datasets/ovis.py). COCO classes that a table does not name are not used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

Names = Mapping[str, str]

_SAME = ("person", "airplane", "boat", "cat", "dog", "horse", "cow", "elephant", "bear", "zebra", "giraffe")
_ALL = {name: name for name in _SAME}
_YTVIS = _ALL | {
    "bicycle": "motorbike",
    "motorcycle": "motorbike",
    "train": "train",
    "truck": "truck",
    "skis": "snowboard",
    "snowboard": "snowboard",
    "skateboard": "skateboard",
    "surfboard": "surfboard",
    "tennis racket": "tennis_racket",
}

COCO_NAMES: dict[str, Names] = {
    "ytvis_2019": _YTVIS | {"car": "sedan"},
    "ytvis_2021": _YTVIS | {"car": "car", "bird": "bird", "frisbee": "flying_disc"},
    # "Vehical" is the published spelling. OVIS has Bird, but the table leaves COCO's birds out.
    "ovis": _ALL
    | {"sheep": "Sheep", "bicycle": "Bicycle", "motorcycle": "Motorcycle"}
    | dict.fromkeys(("car", "bus", "truck"), "Vehical"),
}
"""COCO name -> name in the data set; YouTube-VIS 2022 has the classes of 2021."""


def plain(name: str) -> str:
    """A name without case and the kind of its spaces: ``Giant_panda`` is ``giant panda``."""
    return " ".join(name.replace("_", " ").casefold().split())


def names_for(categories: Collection[str]) -> Names:
    """The table of the public data set whose classes these are; for any other, COCO's own names."""
    known = {plain(name) for name in categories}
    for table in COCO_NAMES.values():
        if {plain(name) for name in table.values()} <= known:
            return table
    return {name: name for name in categories}
