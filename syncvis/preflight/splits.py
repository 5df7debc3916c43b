"""The JSON files of a run, read when somebody needs what is in them, and each once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from syncvis.config import DataConfig
from syncvis.data.annotations import Category, category_differences, match_by_name
from syncvis.data.mixing import load_mixed
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError

Categories = tuple[Category, ...]


@dataclass(frozen=True)
class Part:
    """One JSON file of a run.

    Attributes:
        what: what it is to the run, in words.
        key: where the config names it.
        scope: what else decides which videos and instances of it are used.
    """

    what: str
    key: str
    root: Path
    name: str
    load: Callable[[], VideoDataset]
    scope: str

    @property
    def source(self) -> Path:
        return self.root / self.name

    @property
    def is_mixed(self) -> bool:
        """Whether it is of a data set to mix in."""
        return self.key.startswith("data.mix")


class Splits:
    """The data sets of a run."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self._mixed: dict[int, VideoDataset] = {}

    @cached_property
    def train(self) -> VideoDataset:
        """What is trained on; raises DataError at the first thing that is wrong with it."""
        return self._load(self.data.train)

    @cached_property
    def valid_as_read(self) -> VideoDataset:
        """What is evaluated on, with its own classes; raises DataError at the first thing that is wrong with it."""
        return self._load(self.data.valid)

    @cached_property
    def valid(self) -> VideoDataset:
        """What is evaluated on, with labels of the training split; raises DataError if its classes are others."""
        dataset, categories = self.valid_as_read, self.train.categories
        refuse_other_classes(self.data, categories, dataset.categories)
        return dataset.labelled_as(categories)

    @property
    def mixed(self) -> list[VideoDataset]:
        """The other data sets to train on, with labels of the training split; raises DataError as they do."""
        return [self._mix(number, self.train.categories) for number in range(len(self.data.mix))]

    def parts(self) -> tuple[Part, Part]:
        """Training and validation split."""
        data, scope = self.data, str(self.data.videos)
        train = Part("training data", "data.train", Path(data.root), data.train, lambda: self.train, scope)
        valid = Part("validation data", "data.valid", Path(data.root), data.valid, lambda: self.valid_as_read, scope)
        return train, valid

    def mixed_parts(self, categories: Categories) -> list[Part]:
        """The other data sets, for the classes of the training split."""
        names = [category.name for category in categories]
        return [
            Part(
                "data set to mix in",
                f"data.mix[{number}]",
                Path(mixed.root),
                mixed.train,
                partial(self._mix, number, categories),
                f"{mixed.format} {names}",
            )
            for number, mixed in enumerate(self.data.mix)
        ]

    def _load(self, name: str) -> VideoDataset:
        dataset = VideoDataset.load(Path(self.data.root), name)
        return dataset if self.data.videos is None else dataset.only(self.data.videos)

    def _mix(self, number: int, categories: Categories) -> VideoDataset:
        if number not in self._mixed:
            self._mixed[number] = load_mixed(self.data.mix[number], categories)
        return self._mixed[number]


def refuse_other_classes(data: DataConfig, train: Categories, valid: Categories) -> None:
    """Raise DataError if the classes of the validation split are not, by name, those of the training split.

    Other ids or another order are fine: each class is found by its name, if every name stands there once.
    """
    if match_by_name(train, valid):
        return
    problem = f"differ from those of {data.train}: {category_differences(train, valid, data.train, data.valid)}"
    fix = "give both files the same classes, each name once"
    raise DataError(problem, file=Path(data.root) / data.valid, key="categories", fix=fix)
