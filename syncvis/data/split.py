"""Our own train and validation split, by video, since the public validation sets have no labels.

Every video gets a side by a hash of its id and the seed, the same on any machine and whatever other videos there are.
Then the few videos that help most change sides, until every category is on both sides where it can be, and has about
its share of instances on each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from syncvis.data.balance import Balance
from syncvis.data.stats import Statistics, count
from syncvis.data.text_table import aligned
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.files import write_text


def choose_valid(dataset: VideoDataset, share: float, seed: int) -> frozenset[int]:
    """The ids of the videos for validation.

    Args:
        share: of the videos, and of each category's instances; above 0 and below 1, to three digits.

    Raises:
        ConfigError: The share is not between 0 and 1.
        DataError: There are fewer than two videos.
    """
    if not 0.001 <= share <= 0.999:
        fix = "give a share of the videos such as 0.2"
        raise ConfigError(f"{share:g} is not within 0.001 .. 0.999", file="command line", key="--valid", fix=fix)
    if len(dataset.videos) < 2:
        fix = "give a split of two videos or more"
        raise DataError("one video cannot be divided", file=dataset.source, key="videos", fix=fix)
    videos = sorted(dataset.videos, key=lambda video: _draw(seed, video.id))
    part = Fraction(f"{share:.3f}")
    start = np.array([_draw(seed, video.id) * part.denominator < part.numerator << 64 for video in videos])
    counts = np.zeros((len(videos), len(dataset.categories)), np.int64)
    for row, video in zip(counts, videos, strict=True):
        np.add.at(row, [track.label for track in video.tracks], 1)
    chosen = Balance(counts, part).improve(start)
    return frozenset(video.id for video, valid in zip(videos, chosen, strict=True) if valid)


def _draw(seed: int, video_id: int) -> int:
    """A number below 2**64, as good as random."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{video_id}".encode()).digest()[:8], "big")


@dataclass(frozen=True)
class WrittenSplit:
    """Two JSON files and what each holds."""

    train: Path
    valid: Path
    counts: tuple[Statistics, Statistics]

    def one_sided(self) -> list[tuple[str, Path]]:
        """Categories with instances in one file only, and that file."""
        return [
            (name, path)
            for name in self.counts[0].categories
            for path, own, other in zip((self.train, self.valid), self.counts, self.counts[::-1], strict=True)
            if own.categories[name].instances and not other.categories[name].instances
        ]

    def __str__(self) -> str:
        train, valid = self.counts
        rows = [["", "train", "valid"], ["videos", f"{train.videos:,}", f"{valid.videos:,}"]]
        rows += [["instances", f"{len(train.durations):,}", f"{len(valid.durations):,}"]]
        for name, held in train.categories.items():
            rows.append([f"  {name}", f"{held.instances:,}", f"{valid.categories[name].instances:,}"])
        return aligned(rows)


def write_split(
    dataset: VideoDataset, share: float, seed: int, train: Path, valid: Path, overwrite: bool = False
) -> WrittenSplit:
    """Write the two JSON files; all but the lists of videos and annotations stays as it is in the source.

    Raises:
        ConfigError: The share is wrong, or the files are one, or one of them is the source.
        DataError: There are fewer than two videos.
        StorageError: A file exists already, or cannot be written.
    """
    _check_paths(dataset.source, train, valid, overwrite)
    chosen = choose_valid(dataset, share, seed)
    rest = {video.id for video in dataset.videos} - chosen
    tree = json.loads(dataset.source.read_bytes())
    for path, ids in ((train, rest), (valid, chosen)):
        write_text(path, json.dumps(_only(tree, ids)) + "\n")
    return WrittenSplit(train, valid, (count(dataset.only(rest)), count(dataset.only(chosen))))


def _check_paths(source: Path, train: Path, valid: Path, overwrite: bool) -> None:
    if len({path.resolve() for path in (source, train, valid)}) < 3:
        problem = "the split's files and their source must be three files"
        raise ConfigError(problem, file="command line", fix="choose other names with --out-train and --out-valid")
    for path in (train, valid):
        if path.exists() and not overwrite:
            fix = "add --force to replace it, or choose another name with --out-train or --out-valid"
            raise StorageError("exists already", file=path, fix=fix)


def _only(tree: dict[str, Any], ids: Collection[int]) -> dict[str, Any]:
    """The tree with these videos and their annotations."""
    parts: dict[str, Any] = {"videos": [video for video in tree["videos"] if video["id"] in ids]}
    if tree.get("annotations") is not None:
        parts["annotations"] = [entry for entry in tree["annotations"] if entry["video_id"] in ids]
    return tree | parts
