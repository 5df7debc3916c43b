"""Experiment files: one YAML is one table, figure or search. What it may say, and reading it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationError, model_validator

from sweeps.space import Dimension, Label, Point, Range, Search
from syncvis.config import Natural, Section, read_yaml, validation_error
from syncvis.errors import ConfigError

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
Metric = Literal["AP", "AP50", "AP75", "AR1", "AR10"]
T = TypeVar("T")
MAX_NAME = 60
"""Letters of an experiment's id, with the recipe that it stands on: as many as the ledger's column has."""


# pydantic puts these names of the two forms into the places of errors; load_experiment takes them out.
ONCE, PER_SCALE = "(once)", "(per scale)"


def _form(given: Any) -> str:
    return PER_SCALE if isinstance(given, Mapping) and given and set(given) <= set(SCALES) else ONCE


OnceOrPerScale = Annotated[
    Annotated[T, Tag(ONCE)] | Annotated[dict[Scale, T], Tag(PER_SCALE)],
    Discriminator(_form),
]


class Axis(Section):
    """One thing that is varied: a key with ``values`` or a ``range``, or named ``variants`` (name -> key -> value).

    Each may be given once, or per scale: ``{smoke: ..., small: ...}``. A value replaces whatever stood at
    its key: ``sync: {momentum: 0.1}`` leaves the other keys of that section at their defaults, and
    ``sync: null`` removes the section. A range with no end of numbers is for a search only. The key ``base`` of a
    variant names a run config, relative to the experiment's file: its cells are differences to that one.

    ``when`` (axis above -> label or labels) leaves the axis out at all other points: there is no Nk without sync.
    ``note`` says why these values; it is printed with the plan and below the table.
    """

    key: str | None = None
    values: OnceOrPerScale[list[Label]] | None = None
    range: OnceOrPerScale[Range] | None = None
    variants: OnceOrPerScale[dict[str, dict[str, Any]]] | None = None
    when: dict[str, Label | list[Label]] = Field(default={})
    note: OnceOrPerScale[str] = ""

    @model_validator(mode="after")
    def _one_kind(self) -> Axis:
        kinds = [kind for kind in ("values", "range", "variants") if getattr(self, kind) is not None]
        if len(kinds) != 1 or (self.key is None) != (kinds == ["variants"]):
            raise ValueError("give either 'key' and 'values', or 'key' and 'range', or 'variants'")
        return self

    def at(self, name: str, scale: str) -> Dimension:
        """The axis at one scale; without points where it has none there."""
        when = {axis: tuple(labels if isinstance(labels, list) else [labels]) for axis, labels in self.when.items()}
        if self.range is not None:
            return Dimension(name=name, when=when, key=self.key, range=at_scale(self.range, scale))
        values = [(value, {str(self.key): value}) for value in at_scale(self.values, scale) or ()]
        pairs = values or list((at_scale(self.variants, scale) or {}).items())
        points = [Point(label=label, changes=tuple(changes.items())) for label, changes in pairs]
        return Dimension(name=name, when=when, points=tuple(points))


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

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=MAX_NAME)
    title: str
    question: str
    paper_ref: str = Field("", description="table or figure of the paper; empty for an experiment of one's own")
    base: OnceOrPerScale[str] = Field(description="run config, relative to this file; {scale} and {on} are filled in")
    recipes: list[str] = Field(default=[], description="what {on} is where --on names none; each makes a study")
    axes: dict[str, Axis] = Field(min_length=1)
    seeds: OnceOrPerScale[list[Natural]]
    search: OnceOrPerScale[Search] | None = Field(None, description="cells are chosen one by one; null: the whole grid")
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


def read_experiment(path: str | Path) -> Experiment:
    """Read an experiment file.

    Raises:
        ConfigError: Naming the file and every wrong key.
    """
    path = Path(path)
    try:
        experiment = Experiment.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = validation_error(error, Experiment, path).problem
        problem = problem.replace(f".{ONCE}", "").replace(f".{PER_SCALE}", "")
        raise ConfigError(problem, file=path, fix="correct the keys named above") from None
    experiment._path = path
    if experiment.id != path.stem:
        raise error_in(experiment, "id", f"{experiment.id!r} is not the file's name", f"write id: {path.stem}")
    _check_conditions(experiment)
    return experiment


def at_scale(given: T | dict[Scale, T] | None, scale: str) -> T | None:
    """What is given at a scale: once for all of them, or for each; None if for others only."""
    if _form(given) == PER_SCALE:
        return next((value for name, value in given.items() if name == scale), None)  # type: ignore[union-attr]
    return given  # type: ignore[return-value]


def find_experiments(names: Sequence[str], folder: str | Path = "experiments", scale: str | None = None) -> list[Path]:
    """Files of experiments given by path or by id; where none is given, all of ``folder`` but its searches.

    A search has no end that follows from its axes, so it is only run by name. With a ``scale``, experiments that have
    no seeds there are left out, too, where none is named.

    Raises:
        ConfigError: There is no such experiment (with the nearest id), or two have the same id.
    """
    known = {path.stem: path for path in sorted(Path(folder).glob("*.yaml"))}
    if not names and not known:
        raise ConfigError("holds no experiment", file=folder, fix="give the path of an experiment file")
    names = names or [name for name, path in known.items() if _is_grid(read_yaml(path), scale)]
    if not names:
        raise ConfigError("holds searches only", file=folder, fix=f"name one of {', '.join(known)}")
    paths = [_find(name, known, folder) for name in dict.fromkeys(names)]
    by_stem: dict[str, Path] = {}
    for path in paths:
        if path.resolve() != by_stem.setdefault(path.stem, path).resolve():
            problem = f"has the same name as {by_stem[path.stem]}"
            raise ConfigError(problem, file=path, fix="rename one of the two")
    return list(by_stem.values())


def _is_grid(tree: Mapping[str, Any], scale: str | None) -> bool:
    """Whether the tree of an experiment is no search and, as far as it tells, has seeds at a scale."""
    seeds = tree.get("seeds", {})
    return "search" not in tree and (scale is None or _form(seeds) == ONCE or scale in seeds)


def _find(name: str, known: Mapping[str, Path], folder: str | Path) -> Path:
    if name in known:
        return known[name]
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    fix = f"take one of {', '.join(known)}" if known else "give the path of an experiment file"
    raise ConfigError(f"there is no experiment {name!r}{hint}", file=folder, fix=fix)


def _check_conditions(experiment: Experiment) -> None:
    """Every ``when`` names an axis above it, and labels which that one has at some scale."""
    for place, (name, axis) in enumerate(experiment.axes.items()):
        above = list(experiment.axes)[:place]
        for other, labels in axis.at(name, SCALES[0]).when.items():
            key = f"axes.{name}.when.{other}"
            if other not in above:
                problem = f"{other!r} is no axis above {name!r}"
                fix = f"name one of {', '.join(above)}, or move the axis down" if above else "move the axis down"
                raise error_in(experiment, key, problem, fix)
            shapes = [experiment.axes[other].at(other, scale) for scale in SCALES]
            for label in labels:
                if all(shape.changes(label) is None for shape in shapes):
                    known = dict.fromkeys(str(point.label) for shape in shapes for point in shape.points)
                    fix = f"take one of {', '.join(known)}" if known else "take a value of its range"
                    raise error_in(experiment, key, f"{other!r} has no point {label!r}", fix)


def error_in(experiment: Experiment, key: str, problem: str, fix: str) -> ConfigError:
    """An error of a key of its file."""
    return ConfigError(problem, file=experiment.path, key=key, fix=fix)
