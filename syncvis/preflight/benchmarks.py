"""The public data sets: where they are published, and where the files of their training sets are expected."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

YOUTUBE_VIS = "https://youtube-vos.org/dataset/vis/"


@dataclass(frozen=True)
class Benchmark:
    """A public data set.

    Attributes:
        folder: name of its folder, by which it is recognised in a path.
        name: as its publisher writes it.
        classes: K.
        page: of its publisher.
        frames: folder of the frames or images of the training set, below ``folder``.
        labels: JSON file of the training set, below ``folder``.
        is_video: images lie in ``frames`` itself, frames in a folder for each video.
    """

    folder: str
    name: str
    classes: int
    page: str
    frames: str
    labels: str
    is_video: bool = True

    def places(self, root: Path) -> tuple[str, str]:
        """Paths of the frames and of the labels for a data root that is ``folder`` or lies in it."""
        parts = root.parts
        base = Path(*parts[: parts.index(self.folder) + 1]) if self.folder in parts else root
        return str(base / self.frames), str(base / self.labels)

    def get(self, root: Path, labels: str | None = None) -> str:
        """What to put where, as a step of a fix.

        Args:
            labels: where the config has the JSON file, if not in the usual place.
        """
        frames, usual = self.places(root)
        pictures = f"frames as {frames}/<video>/" if self.is_video else f"images as {frames}/"
        return (
            f"get the training set of {self.name}: its {pictures}, its annotations as {labels or usual} ({self.page})"
        )


BENCHMARKS = (
    Benchmark("ytvis_2019", "YouTube-VIS 2019", 40, YOUTUBE_VIS, "train/JPEGImages", "train.json"),
    Benchmark("ytvis_2021", "YouTube-VIS 2021", 40, YOUTUBE_VIS, "train/JPEGImages", "train/instances.json"),
    Benchmark("ytvis_2022", "YouTube-VIS 2022", 40, YOUTUBE_VIS, "train/JPEGImages", "train/instances.json"),
    Benchmark("ovis", "OVIS", 25, "https://songbai.site/ovis/", "train", "annotations_train.json"),
)
"""Videos. Pages: syncvis/data/reference/dataset_stats.csv; layouts: docs/data.md; 2022 has the classes of 2021."""

COCO = Benchmark(
    "coco",
    "COCO 2017",
    80,
    "https://cocodataset.org/#download",
    "train2017",
    "annotations/instances_train2017.json",
    is_video=False,
)
"""Still images to mix in."""

LABELS = ("train.json", "instances.json", "annotations_train.json", "instances_train.json")
"""Names of files with the labels of a training set, as published and as other projects keep them."""

PLACES = ("", "..", "annotations", "../annotations")
"""Where such files lie, seen from the data root."""


def benchmark_of(root: Path) -> Benchmark | None:
    """The public data set that a data root bears the name of; None if it bears none."""
    return next((known for known in BENCHMARKS if known.folder in root.parts), None)


def labels_in(root: Path) -> str | None:
    """The JSON file of a training set that lies in or beside a data root, relative to it; None if none does."""
    names = (os.path.join(place, name) for place in PLACES for name in LABELS)
    return next((name for name in names if (root / name).is_file()), None)
