"""What a data set's reader gives: categories, videos and the annotated instances in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncvis.data.segmentations import decode


@dataclass(frozen=True)
class Category:
    """A class of the data set; its label, 0 .. K-1, is its position in ``VideoDataset.categories``."""

    id: int
    name: str


def class_names(categories: Sequence[Category]) -> list[str]:
    """One name a category, for tables by class: those that share a name are told apart by their ids."""
    shared = Counter(category.name for category in categories)
    return [c.name if shared[c.name] == 1 else f"{c.name} ({c.id})" for c in categories]


def match_by_name(ours: Sequence[Category], theirs: Sequence[Category]) -> bool:
    """Whether two lists are equal, or have the same names, each once, whatever their ids and order."""
    names, others = ([category.name for category in side] for side in (ours, theirs))
    return tuple(ours) == tuple(theirs) or (len(set(names)) == len(names) and sorted(names) == sorted(others))


def category_differences(
    ours: Sequence[Category], theirs: Sequence[Category], our_name: str = "the run", their_name: str = "the data"
) -> str:
    """In what two lists of classes differ, for a message: by name, else by id, else by order; "" if they are equal.

    ``only in the run: 'cat'; only in the data: 'dog'; 4 alike``

    Args:
        our_name, their_name: what the message calls the two.
    """
    if tuple(ours) == tuple(theirs):
        return ""
    names = [category.name for category in ours], [category.name for category in theirs]
    ours_only, theirs_only = (list((Counter(a) - Counter(b)).elements()) for a, b in (names, names[::-1]))
    if ours_only or theirs_only:
        sides = ((our_name, ours_only), (their_name, theirs_only))
        only = [f"only in {name}: {_some(map(repr, found))}" for name, found in sides if found]
        return "; ".join([*only, f"{len(ours) - len(ours_only)} alike"])
    if {(c.name, c.id) for c in ours} == {(c.name, c.id) for c in theirs}:
        return f"the same {len(ours)} names and ids in another order: {_order(names[0])} and {_order(names[1])}"
    known = {category.name: category.id for category in theirs}
    other = [f"{c.name!r} is {c.id} and {known[c.name]}" for c in ours if known[c.name] != c.id]
    order = "" if names[0] == names[1] else ", in another order"
    return f"the same {len(ours)} names with other ids in {our_name} and in {their_name}{order}: {_some(other)}"


def _order(names: Sequence[str], most: int = 3) -> str:
    return ", ".join([*map(repr, names[:most]), *(["..."] if len(names) > most else [])])


def _some(found: Iterable[str], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    shown = list(found)
    rest = [f"and {len(shown) - most} more"] if len(shown) > most else []
    return ", ".join([*shown[:most], *rest])


@dataclass(frozen=True)
class TrackAnnotation:
    """One annotated instance of a video.

    Attributes:
        label: class index 0 .. K-1 (not the data set's category id).
        segmentations: one entry per frame, as in a file: None, an RLE or a list of polygons; a data set's reader gives
            None for a mask without a pixel.
        where: the file and key it comes from, for errors.
        mean_area: pixels in the frames that show it, as far as the file says; it decides the size in an evaluation.
        blank: masks without a pixel, which the reader has taken for absent ones.
    """

    id: int
    label: int
    iscrowd: bool
    height: int
    width: int
    segmentations: Sequence[Any]
    where: str
    mean_area: float | None = None
    blank: int = 0

    @property
    def is_seen(self) -> bool:
        """Whether some frame has a mask."""
        return any(map(bool, self.segmentations))

    def has_mask(self, t: int) -> bool:
        """Whether the instance has a mask in frame ``t``."""
        return bool(self.segmentations[t])

    def mask(self, t: int) -> NDArray[np.bool_]:
        """(H, W) bool mask in frame ``t``, empty where the instance is absent.

        Raises:
            DataError: The mask is damaged.
        """
        return decode(self.segmentations[t], self.height, self.width, self.place(t))

    def place(self, t: int) -> str:
        """What errors call the mask in frame ``t``."""
        return f"{self.where}.segmentations[{t}]"


@dataclass(frozen=True)
class Video:
    """One video; ``file_names`` are relative to the frames folder, one per frame."""

    id: int
    height: int
    width: int
    file_names: tuple[str, ...]
    tracks: tuple[TrackAnnotation, ...] = ()

    def __len__(self) -> int:
        return len(self.file_names)
