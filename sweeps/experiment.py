"""Experiment files: one YAML is one table, figure or search; here it becomes a study."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationError, model_validator

from sweeps.definition import Cell, Study
from sweeps.space import Dimension, HyperbandSettings, Label, Point, Range, Search, describe
from syncvis.config import Natural, Section, read_tree, read_yaml, validation_error
from syncvis.errors import ConfigError

# Cell, Label and describe belong to planning for whoever plans.
__all__ = [
    "SCALES",
    "Cell",
    "Experiment",
    "Label",
    "Scale",
    "base_file",
    "definition",
    "describe",
    "find_experiments",
    "load_experiment",
    "plan_cells",
    "study_at",
]

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
Metric = Literal["AP", "AP50", "AP75", "AR1", "AR10"]
T = TypeVar("T")


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
    ``sync: null`` removes the section. A range with no end of numbers is for a search only.

    ``when`` (axis above -> label or labels) leaves the axis out at all other points: there is no Nk without sync.
    """

    key: str | None = None
    values: OnceOrPerScale[list[Label]] | None = None
    range: OnceOrPerScale[Range] | None = None
    variants: OnceOrPerScale[dict[str, dict[str, Any]]] | None = None
    when: dict[str, Label | list[Label]] = Field(default={})

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
            return Dimension(name=name, when=when, key=self.key, range=_at_scale(self.range, scale))
        values = [(value, {str(self.key): value}) for value in _at_scale(self.values, scale) or ()]
        pairs = values or list((_at_scale(self.variants, scale) or {}).items())
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

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)
    title: str
    question: str
    paper_ref: str = Field("", description="table or figure of the paper; empty for an experiment of one's own")
    base: str = Field(description="run config, relative to this file; {scale} is filled in")
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


def load_experiment(path: str | Path, scale: str | None = None) -> Experiment:
    """Read an experiment file; with a ``scale``, also check that it can be run at that scale.

    Raises:
        ConfigError: Naming the file and every wrong key, or the scales that there are.
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
        raise _error(experiment, "id", f"{experiment.id!r} is not the file's name", f"write id: {path.stem}")
    _check_conditions(experiment)
    if scale is not None:
        study_at(experiment, scale)
    return experiment


def find_experiments(names: Sequence[str], folder: str | Path = "experiments") -> list[Path]:
    """Files of experiments given by path or by id; where none is given, all of ``folder`` but its searches.

    A search has no end that follows from its axes, so it is only run by name.

    Raises:
        ConfigError: There is no such experiment (with the nearest id), or two have the same id.
    """
    known = {path.stem: path for path in sorted(Path(folder).glob("*.yaml"))}
    if not names and not known:
        raise ConfigError("holds no experiment", file=folder, fix="give the path of an experiment file")
    names = names or [name for name, path in known.items() if "search" not in read_yaml(path)]
    if not names:
        raise ConfigError("holds searches only", file=folder, fix=f"name one of {', '.join(known)}")
    paths = [_find(name, known, folder) for name in dict.fromkeys(names)]
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


def study_at(experiment: Experiment, scale: str) -> Study:
    """The experiment at one scale, with everything resolved.

    Raises:
        ConfigError: No base, values or seeds for this scale, a point listed twice, or a pruner that cannot work.
    """
    base = {**read_tree(base_file(experiment, scale)), "scale": scale}
    study = Study(
        name=f"{experiment.id}-{scale}",
        experiment=experiment.id,
        scale=scale,
        source=str(experiment.path),
        title=experiment.title,
        question=experiment.question,
        claims=tuple(experiment.claims),
        axes=tuple(_dimensions(experiment, scale)),
        seeds=tuple(_seeds(experiment, scale)),
        base=base,
        search=_search(experiment, scale),
    )
    _check_pruner(experiment, study)
    return study


def definition(experiment: Experiment, scale: str) -> dict[str, Any]:
    """:func:`study_at` as JSON; ``sweeps.definition.from_definition`` reads it back anywhere."""
    return study_at(experiment, scale).model_dump(mode="json")


def plan_cells(experiment: Experiment, scale: str) -> list[Cell]:
    """The whole grid at one scale, see :meth:`Study.cells`.

    Raises:
        ConfigError: See :func:`study_at`; also an axis that is a range, or an invalid config.
    """
    return study_at(experiment, scale).cells()


def _at_scale(given: T | dict[Scale, T] | None, scale: str) -> T | None:
    if _form(given) == PER_SCALE:
        return next((value for name, value in given.items() if name == scale), None)  # type: ignore[union-attr]
    return given  # type: ignore[return-value]


def _dimensions(experiment: Experiment, scale: str) -> list[Dimension]:
    dimensions = [axis.at(name, scale) for name, axis in experiment.axes.items()]
    for axis in dimensions:
        key = f"axes.{axis.name}"
        if not axis.points and axis.range is None:
            raise _error(experiment, key, f"has no point at scale {scale!r}", f"add {scale!r} to its points")
        for one, other in itertools.combinations(axis.points, 2):
            if dict(one.changes) == dict(other.changes):
                problem = f"the points {one.label!r} and {other.label!r} are the same"
                raise _error(experiment, key, problem, "remove one of them")
    return dimensions


def _check_conditions(experiment: Experiment) -> None:
    """Every ``when`` names an axis above it, and labels which that one has at some scale."""
    for place, (name, axis) in enumerate(experiment.axes.items()):
        above = list(experiment.axes)[:place]
        for other, labels in axis.at(name, SCALES[0]).when.items():
            key = f"axes.{name}.when.{other}"
            if other not in above:
                problem = f"{other!r} is no axis above {name!r}"
                fix = f"name one of {', '.join(above)}, or move the axis down" if above else "move the axis down"
                raise _error(experiment, key, problem, fix)
            shapes = [experiment.axes[other].at(other, scale) for scale in SCALES]
            for label in labels:
                if all(shape.changes(label) is None for shape in shapes):
                    known = dict.fromkeys(str(point.label) for shape in shapes for point in shape.points)
                    fix = f"take one of {', '.join(known)}" if known else "take a value of its range"
                    raise _error(experiment, key, f"{other!r} has no point {label!r}", fix)


def _check_pruner(experiment: Experiment, study: Study) -> None:
    pruner = study.search.pruner if study.search else None
    if isinstance(pruner, HyperbandSettings) and (pruner.min_resource or 0) > study.base_config().train.steps:
        problem, fix = "is more than the base's train.steps", "give the step of the first evaluation"
        raise _error(experiment, "search.pruner.min_resource", problem, fix)


def _seeds(experiment: Experiment, scale: str) -> list[int]:
    seeds = _at_scale(experiment.seeds, scale)
    if not seeds:
        raise _error(experiment, "seeds", f"there are none for scale {scale!r}", f"add {scale}: [0, 1]")
    if len(set(seeds)) < len(seeds):
        raise _error(experiment, "seeds", f"one is listed twice in {seeds}", "remove one of them")
    return seeds


def _search(experiment: Experiment, scale: str) -> Search | None:
    search = _at_scale(experiment.search, scale)
    if search is None and experiment.search is not None:
        raise _error(experiment, "search", f"there is none for scale {scale!r}", f"add {scale}: {{trials: 20}}")
    return search


def _error(experiment: Experiment, key: str, problem: str, fix: str) -> ConfigError:
    return ConfigError(problem, file=experiment.path, key=key, fix=fix)
