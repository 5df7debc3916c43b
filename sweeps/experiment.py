"""Experiment files: one YAML is one table or figure; here it becomes an ordered list of cells."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from syncvis.config import (
    Natural,
    RunConfig,
    Section,
    read_tree,
    read_yaml,
    resolve,
    set_dotted,
    validation_error,
)
from syncvis.errors import ConfigError

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
Metric = Literal["AP", "AP50", "AP75", "AR1", "AR10"]
Label = bool | int | float | str | None
Changes = dict[str, Any]
T = TypeVar("T")


class Axis(Section):
    """One thing that is varied: a key with ``values``, or named ``variants`` (name -> dotted key -> value).

    Either may be given once, or per scale: ``{smoke: ..., small: ...}``. A value replaces whatever stood at
    its key: ``sync: {momentum: 0.1}`` leaves the other keys of that section at their defaults, and
    ``sync: null`` removes the section.
    """

    key: str | None = None
    values: list[Label] | dict[Scale, list[Label]] | None = None
    variants: dict[str, dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Axis:
        by_value = self.key is not None and self.values is not None and self.variants is None
        by_name = self.variants is not None and self.key is None and self.values is None
        if not by_value and not by_name:
            raise ValueError("give either 'key' and 'values', or 'variants'")
        return self

    def points(self, scale: str) -> list[tuple[Label, Changes]]:
        """Label and changes of every point; empty where the axis has none for this scale."""
        if self.variants is not None:
            per_scale = set(self.variants) <= set(SCALES)
            variants = self.variants.get(scale, {}) if per_scale else self.variants
            return list(variants.items())
        return [(value, {str(self.key): value}) for value in _at_scale(self.values or [], scale)]


class Table(Section):
    """How the report lays the cells out: axes as rows, metrics or one axis as columns."""

    rows: list[str] = Field(min_length=1)
    columns: str = "metrics"


class Curve(Section):
    """Which axis is drawn along x, and which one gives a line each."""

    x: str
    series: str | None = None


class Experiment(Section):
    """The content of one file ``experiments/<id>.yaml``."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)
    title: str
    question: str
    paper_ref: str
    base: str = Field(description="run config, relative to this file; {scale} is filled in")
    axes: dict[str, Axis] = Field(min_length=1)
    seeds: list[Natural] | dict[Scale, list[Natural]]
    metrics: list[Metric] = Field(default=["AP", "AP50", "AP75"], min_length=1)
    claims: list[str] = Field(default=[])
    reference: str | None = None
    table: Table | None = None
    curve: Curve | None = None
    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @model_validator(mode="after")
    def _layout_names_axes(self) -> Experiment:
        named = list(self.table.rows) if self.table else []
        if self.table and self.table.columns != "metrics":
            named.append(self.table.columns)
        if self.curve:
            named += [axis for axis in (self.curve.x, self.curve.series) if axis is not None]
        unknown = [axis for axis in named if axis not in self.axes]
        if unknown:
            raise ValueError(f"table or curve: {unknown[0]!r} is no axis; axes: {', '.join(self.axes)}")
        return self


@dataclass(frozen=True)
class Cell:
    """One training run of an experiment.

    Attributes:
        axes: axis name -> label of its point, in the order of the file.
        hash: identity of the resolved config; equal cells of several experiments share it.
        position: place in the plan, from 0.
    """

    experiment: str
    scale: str
    axes: dict[str, Label]
    seed: int
    config: RunConfig
    hash: str
    position: int


def load_experiment(path: str | Path, scale: str | None = None) -> Experiment:
    """Read an experiment file; with a ``scale``, also check that it can be run at that scale.

    Raises:
        ConfigError: Naming the file and every wrong key, or the scales that there are.
    """
    path = Path(path)
    try:
        experiment = Experiment.model_validate(read_yaml(path))
    except ValidationError as error:
        raise validation_error(error, Experiment, path) from None
    experiment._path = path
    if experiment.id != path.stem:
        raise _error(experiment, "id", f"{experiment.id!r} is not the file's name", f"write id: {path.stem}")
    if scale is not None:
        base_file(experiment, scale)
        _points(experiment, scale)
        _seeds(experiment, scale)
    return experiment


def find_experiments(names: Sequence[str], folder: str | Path = "experiments") -> list[Path]:
    """Files of experiments given by path or by id; all of ``folder`` where none is given.

    Raises:
        ConfigError: There is no such experiment (with the nearest id), or two have the same id.
    """
    known = {path.stem: path for path in sorted(Path(folder).glob("*.yaml"))}
    if not names and not known:
        raise ConfigError("holds no experiment", file=folder, fix="give the path of an experiment file")
    paths = [_find(name, known, folder) for name in dict.fromkeys(names or known)]
    by_stem: dict[str, Path] = {}
    for path in paths:
        if path.resolve() != by_stem.setdefault(path.stem, path).resolve():
            problem = f"has the same name as {by_stem[path.stem]}"
            raise ConfigError(problem, file=path, fix="rename one of the two")
    return list(by_stem.values())


def _find(name: str, known: Mapping[str, Path], folder: str | Path) -> Path:
    if name in known:
        return known[name]
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    fix = f"take one of {', '.join(known)}" if known else "give the path of an experiment file"
    raise ConfigError(f"there is no experiment {name!r}{hint}", file=folder, fix=fix)


def base_file(experiment: Experiment, scale: str) -> Path:
    """The run config that this experiment is the difference to.

    Raises:
        ConfigError: There is none for this scale; the text lists the scales that have one.
    """
    files = {name: experiment.path.parent / experiment.base.replace("{scale}", name) for name in SCALES}
    if scale in files and files[scale].is_file():
        return files[scale]
    present = [name for name, file in files.items() if file.is_file()] if "{scale}" in experiment.base else []
    problem = f"there is no base {experiment.base!r} for scale {scale!r}"
    fix = f"use one of the scales {', '.join(present)}" if present else "write that file"
    raise _error(experiment, "base", problem, fix)


def plan_cells(experiment: Experiment, scale: str) -> list[Cell]:
    """All cells at one scale: the product of the axes in file order, seeds outermost.

    Points that resolve to the same run config are one cell, under the first label.

    Raises:
        ConfigError: No base, values or seeds for this scale, a point listed twice, or an invalid config.
    """
    base = {**read_tree(base_file(experiment, scale)), "scale": scale}
    axes = _points(experiment, scale)
    cells: dict[str, Cell] = {}
    for seed in _seeds(experiment, scale):
        for point in itertools.product(*axes.values()):
            labels = {axis: label for axis, (label, _) in zip(axes, point, strict=True)}
            tree = _apply({**base, "seed": seed}, [changes for _, changes in point])
            config = resolve(tree, f"{experiment.path}: {describe(labels)}")
            cell = Cell(experiment.id, scale, labels, seed, config, config.cell_hash, len(cells))
            cells.setdefault(cell.hash, cell)
    return list(cells.values())


def describe(axes: Mapping[str, Label]) -> str:
    """``Nk=10, method=SyncVIS``."""
    return ", ".join(f"{axis}={label}" for axis, label in axes.items())


def _apply(tree: dict[str, Any], all_changes: Sequence[Changes]) -> dict[str, Any]:
    for changes in all_changes:
        for key, value in changes.items():
            tree = set_dotted(tree, key, value)
    return tree


def _at_scale(given: list[T] | dict[Scale, list[T]], scale: str) -> list[T]:
    if isinstance(given, list):
        return given
    return next((values for name, values in given.items() if name == scale), [])


def _points(experiment: Experiment, scale: str) -> dict[str, list[tuple[Label, Changes]]]:
    axes = {}
    for name, axis in experiment.axes.items():
        points, key = axis.points(scale), f"axes.{name}"
        if not points:
            raise _error(experiment, key, f"has no point at scale {scale!r}", f"add {scale!r} to its points")
        for (first, one), (second, other) in itertools.combinations(points, 2):
            if one == other:
                problem = f"the points {first!r} and {second!r} are the same"
                raise _error(experiment, key, problem, "remove one of them")
        axes[name] = points
    return axes


def _seeds(experiment: Experiment, scale: str) -> list[int]:
    seeds = _at_scale(experiment.seeds, scale)
    if not seeds:
        raise _error(experiment, "seeds", f"there are none for scale {scale!r}", f"add {scale}: [0, 1]")
    if len(set(seeds)) < len(seeds):
        raise _error(experiment, "seeds", f"one is listed twice in {seeds}", "remove one of them")
    return seeds


def _error(experiment: Experiment, key: str, problem: str, fix: str) -> ConfigError:
    return ConfigError(problem, file=experiment.path, key=key, fix=fix)
