"""Our own train and validation split, by video, since the public validation sets have no labels.

Every video gets a side by a hash of its id and the seed, the same on any machine and whatever other videos there are.
Then the few videos that help most change sides, until every category is on both sides where it can be, and has about
its share of instances on each. Videos that share frames are taken as one.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from syncvis.data.balance import Balance
from syncvis.data.file_names import one_spelling
from syncvis.data.stats import Statistics, count
from syncvis.data.text_table import aligned
from syncvis.data.video_file import split_name
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.files import write_text


def choose_valid(dataset: VideoDataset, share: float, seed: int) -> frozenset[int]:
    """The ids of the videos for validation; videos that share frames are on one side.

    Args:
        share: of the videos, and of each category's instances; above 0 and below 1, to three digits.

    Raises:
        ConfigError: The share is not between 0 and 1.
        DataError: There are fewer than two videos, or all of them share frames.
    """
    if not 0.001 <= share <= 0.999:
        fix = "give a share of the videos such as 0.2"
        raise ConfigError(f"{share:g} is not within 0.001 .. 0.999", file="command line", key="--valid", fix=fix)
    groups = sorted(video_groups(dataset), key=lambda group: _draw(seed, group[0].id))
    if len(groups) < 2:
        count = len(dataset.videos)
        problem = (
            "one video cannot be divided" if count < 2 else f"all {count} videos share frames, so none can be apart"
        )
        fix = "give a split of two videos or more, of different frames"
        raise DataError(problem, file=dataset.source, key="videos", fix=fix)
    part = Fraction(f"{share:.3f}")
    start = np.array([_draw(seed, group[0].id) * part.denominator < part.numerator << 64 for group in groups])
    counts = np.zeros((len(groups), len(dataset.categories)), np.int64)
    for row, group in zip(counts, groups, strict=True):
        np.add.at(row, [track.label for video in group for track in video.tracks], 1)
    chosen = Balance(counts, part, np.array([len(group) for group in groups])).improve(start)
    return frozenset(video.id for group, valid in zip(groups, chosen, strict=True) if valid for video in group)


def video_groups(dataset: VideoDataset) -> list[list[Video]]:
    """Videos that share frames, directly or through others, are one group, in the order of their ids.

    Frames are shared if their files have one name, on machines too that do not know large from small letters, or are in
    one video file.
    """
    videos = sorted(dataset.videos, key=lambda video: video.id)
    joined = {video.id: video.id for video in videos}  # leads to the first video of the group, step by step
    owner: dict[str, int] = {}

    def first(video_id: int) -> int:
        while joined[video_id] != video_id:
            joined[video_id] = joined[joined[video_id]]
            video_id = joined[video_id]
        return video_id

    for video in videos:
        for file in {split_name(name)[0] for name in video.file_names}:
            ends = first(video.id), first(owner.setdefault(one_spelling(file), video.id))
            joined[max(ends)] = min(ends)
    groups: dict[int, list[Video]] = defaultdict(list)
    for video in videos:
        groups[first(video.id)].append(video)
    return list(groups.values())


def _draw(seed: int, video_id: int) -> int:
    """A number below 2**64, as good as random."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{video_id}".encode()).digest()[:8], "big")


@dataclass(frozen=True)
class WrittenSplit:
    """Two JSON files and what each holds; ``together``: how many videos each group has that shares frames."""

    train: Path
    valid: Path
    counts: tuple[Statistics, Statistics]
    together: tuple[int, ...] = ()

    def one_sided(self) -> list[tuple[str, Path]]:
        """Categories with instances in one file only, and that file."""
        return [
            (name, path)
            for name in self.counts[0].categories
            for path, own, other in zip((self.train, self.valid), self.counts, self.counts[::-1], strict=True)
            if own.categories[name].instances and not other.categories[name].instances
        ]

    def remark(self) -> str | None:
        """What to say of videos that share frames."""
        if not self.together:
            return None
        many = len(self.together) > 1
        groups = f"{len(self.together)} groups of videos" if many else "1 group of videos"
        verbs = ("share", "stay") if many else ("shares", "stays")
        return f"{groups} ({sum(self.together)} videos) {verbs[0]} frames and {verbs[1]} together"

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
        DataError: There are fewer than two videos, or all of them share frames.
        StorageError: A file exists already, or cannot be written.
    """
    _check_paths(dataset.source, train, valid, overwrite)
    chosen = choose_valid(dataset, share, seed)
    rest = {video.id for video in dataset.videos} - chosen
    tree = json.loads(dataset.source.read_bytes())
    for path, ids in ((train, rest), (valid, chosen)):
        write_text(path, json.dumps(_only(tree, ids)) + "\n")
    together = tuple(len(group) for group in video_groups(dataset) if len(group) > 1)
    return WrittenSplit(train, valid, (count(dataset.only(rest)), count(dataset.only(chosen))), together)


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
