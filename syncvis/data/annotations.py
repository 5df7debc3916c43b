"""What a data set's reader gives: categories, videos and the annotated instances in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


@dataclass(frozen=True)
class TrackAnnotation:
    """One annotated instance of a video.

    Attributes:
        label: class index 0 .. K-1 (not the data set's category id).
        segmentations: one entry per frame, as in a file: None, an RLE or a list of polygons.
        where: the file and key it comes from, for errors.
        mean_area: pixels in the frames that show it, as far as the file says; it decides the size in an evaluation.
    """

    id: int
    label: int
    iscrowd: bool
    height: int
    width: int
    segmentations: Sequence[Any]
    where: str
    mean_area: float | None = None

    def has_mask(self, t: int) -> bool:
        """Whether the instance is annotated in frame ``t``."""
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
