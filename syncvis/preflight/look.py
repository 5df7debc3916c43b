"""The look itself: one JSON file after the other, then what they must agree in, then the initial weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syncvis.config import RunConfig
from syncvis.data.annotations import Category
from syncvis.data.entries import find_frames
from syncvis.data.video_file import split_name
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError, StorageError
from syncvis.files import fingerprint
from syncvis.preflight.absent import absent
from syncvis.preflight.class_text import look_at_class_text
from syncvis.preflight.findings import Findings, Problem
from syncvis.preflight.fit import look_at_fit
from syncvis.preflight.frames import Frames, folders_of
from syncvis.preflight.labels import Labels, counted
from syncvis.preflight.memory import listing, recall, remember
from syncvis.preflight.splits import Categories, Part, Splits, refuse_other_classes
from syncvis.preflight.watch import Watch, unwatched
from syncvis.preflight.weights import INITIAL_WEIGHTS, look_at_weights

VERSION = 1
"""Of what is remembered of a split; another one is looked at again."""


@dataclass(frozen=True)
class Seen:
    """What is known of a split whose frames and masks are in order.

    Attributes:
        counts: videos and annotations, in words.
        usable: Whether there is an instance to learn from, or to find.
        categories: id and name of each class.
        notes: what is good to know of it.
    """

    counts: str
    usable: bool
    categories: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Look(Findings):
    """What was found before a run.

    Attributes:
        splits: its data sets, to be read where the look did not have to.
        categories: the classes of the training split; None if it cannot be read.
    """

    splits: Splits
    categories: Categories | None


def look(config: RunConfig, watch: Watch = unwatched) -> Look:
    """Look at everything that a run needs of this machine's files. What is wrong is told, not raised."""
    splits = Splits(config.data)
    problems: list[Problem] = []
    notes: list[str] = []
    train, valid = (_look_at_part(part, watch, problems, notes) for part in splits.parts())
    categories = _categories(train) if train else None
    if train is not None and not train.usable:
        problems.append(_untrainable(splits.parts()[0], train))
    if valid is not None and not valid.usable:
        problems.append(_unfindable(splits.parts()[1], valid))
    if categories is not None and valid is not None:
        problems += _other_classes(config, categories, _categories(valid), notes)
    for part in splits.mixed_parts(categories or ()):
        mixed = _look_at_part(part, watch, problems, notes) if categories or absent(part) else None
        if mixed is not None and not mixed.usable:
            problems.append(_untrainable(part, mixed))
    problems += look_at_weights(config.train.init)
    problems += look_at_class_text(config.method, config.data, [category.name for category in categories or ()])
    return Look(problems=tuple(problems), notes=tuple(notes), splits=splits, categories=categories)


def look_at_split(dataset: VideoDataset, root: Path, name: str, watch: Watch = unwatched) -> Findings:
    """Look at the frames and masks of a data set that a finished run is to be evaluated on."""
    problems: list[Problem] = []
    notes: list[str] = []
    _look_at_part(Part("data", "--split", root, name, lambda: dataset, "all"), watch, problems, notes)
    return Findings(tuple(problems), tuple(notes))


def look_at_runs(configs: Iterable[RunConfig], watch: Watch = unwatched) -> Findings:
    """One look for all runs: each data set, each file of weights, and each model that these are for, once."""
    configs = list(configs)
    looks = {needs: look(config, watch) for needs, config in {_needs(config): config for config in configs}.items()}
    found: list[Findings] = [*looks.values(), look_at_fit(_with_whole_weights(configs, looks))]
    problems = {str(problem.error): problem for one in found for problem in one.problems}
    return Findings(tuple(problems.values()), tuple(dict.fromkeys(note for one in found for note in one.notes)))


def _with_whole_weights(
    configs: Iterable[RunConfig], looks: Mapping[tuple[Any, ...], Look]
) -> list[tuple[RunConfig, tuple[str, ...]]]:
    """Runs whose weights and classes are there, with the names of the classes."""
    found = []
    for config in configs:
        seen = looks[_needs(config)]
        is_whole = config.train.init and not any(problem.what == INITIAL_WEIGHTS for problem in seen.problems)
        if is_whole and seen.categories is not None:
            found.append((config, tuple(category.name for category in seen.categories)))
    return found


def _needs(config: RunConfig) -> tuple[Any, ...]:
    data = config.data
    mixed = tuple((mixed.root, mixed.train, mixed.format) for mixed in data.mix)
    return data.root, data.train, data.valid, data.videos, mixed, config.train.init, config.method.class_text


def _look_at_part(part: Part, watch: Watch, problems: list[Problem], notes: list[str]) -> Seen | None:
    """What is known of a split, with its problems and notes added to the lists; None if it cannot be read."""
    if (missing := absent(part)) is not None:
        if missing.error.what not in [problem.error.what for problem in problems]:
            problems.append(missing)
        return None
    try:
        key = _key(part)
        seen = _remembered(part, key)
        if seen is None:
            seen, errors = _look_at_files(part, key, watch)
            problems += [Problem(part.what, error) for error in errors]
    except DataError as error:
        problems.append(Problem(part.what, error))
        return None
    notes += [f"{part.source}: {note}" for note in seen.notes]
    return seen


def _key(part: Part) -> tuple[str, ...]:
    """What a look at a part is remembered under; raises DataError if its file cannot be read."""
    places = os.path.abspath(part.source), os.path.abspath(part.root)
    try:
        if part.source.is_file():  # a pipe would keep the reader waiting
            return str(VERSION), *places, part.scope, fingerprint(part.source)
        problem = "is not a file"
    except StorageError as error:
        problem = error.problem
    raise DataError(problem, file=part.source, key=part.key, fix="give the path of a JSON file that can be read")


def _look_at_files(part: Part, key: tuple[str, ...], watch: Watch) -> tuple[Seen, list[DataError]]:
    """Read the split, every RLE and the header of every frame."""
    dataset = part.load()
    folders, root = folders_of(dataset), dataset.root
    listed = listing(root, folders)  # before the frames are looked at: what changes meanwhile is looked at next time
    labels, frames = Labels(), Frames(dataset)
    for video in watch(dataset.videos, len(dataset.videos), dataset.source):
        labels.add(video)
        frames.add(video)
    counts = f"{counted(len(dataset.videos), 'image' if dataset.is_still else 'video')}, {labels}"
    categories = tuple((category.id, category.name) for category in dataset.categories)
    seen = Seen(counts, labels.usable, categories, tuple(getattr(dataset, "notes", ())))
    errors = [*frames.errors(), *labels.errors()]
    if not errors:
        first = split_name(dataset.videos[0].file_names[0])[0]
        remember(key, asdict(seen) | {"frames": str(root), "first": first, "folders": folders, "listing": listed})
    return seen, errors


def _remembered(part: Part, key: tuple[str, ...]) -> Seen | None:
    """What an earlier look found, if all files of frames lie there as they did."""
    found = recall(key)
    try:
        if found is None or str(find_frames(part.root, part.source, found["first"])) != found["frames"]:
            return None
        if listing(Path(found["frames"]), found["folders"]) != found["listing"]:
            return None
        categories = tuple((int(number), str(name)) for number, name in found["categories"])
        return Seen(str(found["counts"]), bool(found["usable"]), categories, tuple(map(str, found["notes"])))
    except (DataError, KeyError, TypeError, ValueError):
        return None


def _categories(seen: Seen) -> Categories:
    return tuple(Category(number, name) for number, name in seen.categories)


def _untrainable(part: Part, seen: Seen) -> Problem:
    problem, fix = f"{seen.counts}; nothing to train on", "give instances that are no crowds masks with a pixel"
    return Problem(part.what, DataError(problem, file=part.source, key="annotations", fix=fix))


def _unfindable(part: Part, seen: Seen) -> Problem:
    problem = f"has no annotated instance, so AP is undefined ({seen.counts})"
    fix = "evaluate on a split with labels; public validation sets have none"
    return Problem(part.what, DataError(problem, file=part.source, key="annotations", fix=fix))


def _other_classes(config: RunConfig, train: Categories, valid: Categories, notes: list[str]) -> list[Problem]:
    """What is wrong with the classes of the validation split; a note where they only stand otherwise."""
    try:
        refuse_other_classes(config.data, train, valid)
    except DataError as error:
        return [Problem("classes", error)]
    if train != valid:
        source = Path(config.data.root) / config.data.valid
        notes.append(f"{source}: the classes of {config.data.train} with other ids or in another order, found by name")
    return []
