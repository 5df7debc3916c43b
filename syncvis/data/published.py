"""Published numbers of the public data sets, with their sources. What was not published stays empty."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from syncvis.data.stats import Statistics, combine
from syncvis.errors import ConfigError

FILE = "reference/dataset_stats.csv"

COLUMNS = {
    "videos": "videos",
    "categories": "categories",
    "instances": "instances",
    "masks": "masks",
    "masks_per_frame": "avg_masks_per_frame",
    "objects_per_video": "avg_objects_per_video_derived",
}
"""Our measure -> column of the file."""

SPLITS = {"train": "train_videos", "val": "val_videos", "test": "test_videos"}
"""Start of a JSON file's name -> column with the number of its videos."""

DERIVED = "objects_per_video"
"""Not published itself: published instances divided by published videos."""


@dataclass(frozen=True)
class Quantity:
    """A number as it was published; ``step`` is the unit of its last digit."""

    text: str
    value: float
    step: float

    @classmethod
    def parse(cls, text: str) -> Quantity | None:
        """``4883`` or ``131k`` or ``1.69``; None for no number or more than one ("259 val + 268 test")."""
        match = re.fullmatch(r"(\d+)(?:\.(\d+))?(k?)", text)
        if match is None:
            return None
        scale = 1000 if match[3] else 1
        return cls(text, float(text.removesuffix("k")) * scale, scale * 10.0 ** -len(match[2] or ""))


@dataclass(frozen=True)
class Published:
    """What is known of one data set, over all its splits.

    Attributes:
        values: measure of ``Statistics.summary`` -> text as published, empty where it was not.
        split_videos: train, val, test -> number of videos, or empty.
    """

    name: str
    values: Mapping[str, str]
    split_videos: Mapping[str, str]
    source: str
    note: str

    def difference(self, measure: str, ours: float) -> float | None:
        """Ours minus published; None where there is nothing to compare with."""
        published = Quantity.parse(self.values.get(measure, ""))
        return None if published is None else ours - published.value

    def videos_of(self, file_name: str) -> Quantity | None:
        """Published number of videos of the split that a JSON file's name speaks of.

        Names such as train_split.json are parts that we cut, and speak of none.
        """
        words = {"train": "train", "valid": "val", "val": "val", "test": "test"}
        split = words.get(Path(file_name).stem)
        return None if split is None else Quantity.parse(self.split_videos[split])


@cache
def all_published() -> tuple[Published, ...]:
    """Every data set of the file that ships with the package."""
    text = files("syncvis.data").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(_published(row) for row in csv.DictReader(text.splitlines()))


def _published(row: Mapping[str, str]) -> Published:
    return Published(
        name=row["dataset"],
        values={measure: row[column] for measure, column in COLUMNS.items()},
        split_videos={split: row[column] for split, column in SPLITS.items()},
        source=row["source"],
        note=row["note"],
    )


def find(name: str) -> Published:
    """The data set of that name, or the only one whose name starts like it; case and punctuation do not matter.

    Raises:
        ConfigError: There is none, or more than one.
    """
    known = all_published()
    exact = [p for p in known if _words(p.name) == _words(name)]
    fits = exact or [p for p in known if _words(name) and _words(p.name).startswith(_words(name))]
    if len(fits) == 1:
        return fits[0]
    names = [p.name for p in known]
    near = difflib.get_close_matches(name, names, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}"
    raise ConfigError(f"{len(fits)} published data sets fit {name!r}", file="command line", key="--published", fix=fix)


def choose(name: str | None, root: Path, parts: Sequence[Statistics]) -> Published | None:
    """The data set called ``name``; none for "none"; guessed for None.

    Raises:
        ConfigError: No data set, or more than one, has that name.
    """
    if name is None:
        return guess(root, parts)
    return None if name.lower() == "none" else find(name)


def guess(root: Path, parts: Sequence[Statistics]) -> Published | None:
    """The data set that the folder is named after (``ytvis_2019``, ``OVIS``), else the one of the same counts."""
    place = " ".join(_words(part) for part in root.resolve().parts[-3:])
    for published in all_published():
        if _named(published, place):
            return published
    return next((p for p in all_published() if _counts_fit(p, parts)), None)


def _named(published: Published, place: str) -> bool:
    year = re.search(r"\d{4}", published.name)
    kind = rf"(ytvis|youtube ?vis) ?{year[0]}" if year else re.escape(_words(published.name))
    return re.search(rf"\b{kind}\b", place) is not None


def _counts_fit(published: Published, parts: Sequence[Statistics]) -> bool:
    """The same number of categories, and of videos: of all files together, or of each with the name of a split."""
    together = combine(parts)
    if published.difference("categories", len(together.categories)) != 0:
        return False
    if published.difference("videos", together.videos) == 0:
        return True
    wanted = [published.videos_of(part.name) for part in parts]
    return all(q is not None and q.value == part.videos for q, part in zip(wanted, parts, strict=True))


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
