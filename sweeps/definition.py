"""A study: one experiment at one scale with everything resolved, so that it can travel as JSON without its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import Field, ValidationError

from sweeps.bases import BASE
from sweeps.space import Dimension, Label, Labels, SamplerName, Search, describe
from syncvis.config import Natural, RunConfig, Section, resolve, set_dotted, start_anew, validation_error
from syncvis.errors import ConfigError, StorageError

MAX_PROBES = 500
"""Points up to which each is tried before the first cell."""


@dataclass(frozen=True)
class Cell:
    """One training run of an experiment.

    Attributes:
        axes: axis name -> label of its point, in the order of the file; an axis that does not exist there is left out.
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


class Study(Section):
    """One experiment at one scale.

    Attributes:
        name: ``nk-small``, or ``nk@ovis_r50-paper`` of an experiment that stands on a recipe.
        experiment: the same without the scale.
        source: the experiment's file, only to name it in errors.
        notes: why its axes have these values, and what was left out.
        base: tree of the run config that every cell is a difference to, its base files merged in.
        search: how cells are chosen; None where the whole grid is run.
    """

    name: str
    experiment: str
    scale: str
    source: str
    title: str = ""
    question: str = ""
    claims: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    axes: tuple[Dimension, ...] = Field(min_length=1)
    seeds: tuple[Natural, ...] = Field(min_length=1)
    base: dict[str, Any]
    search: Search | None = None

    def cells(self) -> list[Cell]:
        """The whole grid: the product of the axes in their order, seeds outermost.

        So after any number of cells no point has run two seeds more than another. Points that resolve to the same
        run config are one cell, under the first label.

        Raises:
            ConfigError: An axis is a range without an end, or a point gives an invalid config.
        """
        self.refuse_endless_grid()
        cells: dict[str, Cell] = {}
        for seed in self.seeds:
            for point in self.points():
                cell = self.cell(point, seed, len(cells))
                cells.setdefault(cell.hash, cell)
        return list(cells.values())

    def cell(self, point: Labels, seed: int, position: int) -> Cell:
        """The cell of one point and seed.

        Raises:
            ConfigError: The study has no such point, or its config is invalid.
        """
        labels = {axis.name: point[axis.name] for axis in self.axes if axis.name in point}
        base, changes, above = self.base, list[tuple[str, Any]](), dict[str, Any]()
        for key, value in self._changes(point):
            if key == BASE:
                base = value
                continue
            changes.append((key, value))
            above = set_dotted(above, key, value)
        tree = start_anew({**base, "seed": seed}, above)
        for key, value in changes:
            tree = set_dotted(tree, key, value)
        config = resolve(tree, f"{self.source}: {describe(labels)}")
        return Cell(self.experiment, self.scale, labels, seed, config, config.cell_hash, position)

    def points(self) -> Iterator[dict[str, Label]]:
        """Every point in order; only for a finite study."""
        return _points(self.axes, {})

    @property
    def finite(self) -> bool:
        """Whether its points can be counted."""
        return all(axis.range is None or axis.range.count is not None for axis in self.axes)

    def holds(self, point: Labels) -> bool:
        """Whether this is one of its points: a label for each axis that exists there, and for no other."""
        return self._problem(point) is None

    def base_config(self) -> RunConfig:
        """The base alone as a run config.

        Raises:
            ConfigError: The base needs what only the axes give.
        """
        return resolve({**self.base, "seed": self.seeds[0]}, f"{self.source}: base")

    def refuse_endless_grid(self) -> None:
        """Raises ConfigError where an axis is a range without an end, of which there is no grid."""
        for axis in self.axes:
            if axis.choices() is None:
                key, problem = f"axes.{axis.name}.range", "a range without a step has no grid"
                fix = (
                    "give it a 'step', list 'values', or choose cells with a `search:` section (sampler: tpe or random)"
                )
                raise ConfigError(problem, file=self.source, key=key, fix=fix)

    def check(self) -> None:
        """Refuse now what a worker could not run later.

        Raises:
            ConfigError: A grid is asked for that has no end, or a value of an axis gives an invalid config.
        """
        if self.search is None:
            self.cells()
            return
        if self.search.sampler == "grid":
            self.refuse_endless_grid()
        for point in self.probes():
            self.cell(point, self.seeds[0], 0)

    def probes(self, most: int = MAX_PROBES) -> list[dict[str, Label]]:
        """All points if they are no more than ``most``; else some in which every value of every axis occurs, of a range
        its ends and some between."""
        if self.finite:
            found = list(islice(self.points(), most + 1))
            if len(found) <= most:
                return found
        return [self._reach(axis, label) for axis in self.axes for label in axis.probes()]

    def size(self) -> int | None:
        """How many cells there can be, None if there is no end of them; of very many, equal ones are not found out."""
        if not self.finite:
            return None
        points = sum(1 for _ in self.points())
        return len(self.cells()) if points <= MAX_PROBES else points * len(self.seeds)

    def searched(self, sampler: SamplerName | None, trials: int | None) -> Study:
        """With another sampler or number of cells; one that had no search is searched from now on.

        Raises:
            ConfigError: It has no search and a range without an end, so that nothing tells how many cells to choose.
        """
        if sampler is None and trials is None:
            return self
        if sampler == "grid" and trials is None:
            return self.model_copy(update={"search": None})
        known = self.search or Search(trials=trials or self._all())
        wanted = {"sampler": sampler or known.sampler, "trials": trials or known.trials}
        return self.model_copy(update={"search": known.model_copy(update=wanted)})

    def _all(self) -> int:
        if not self.finite:
            raise ConfigError("has a range without an end", file=self.source, key="axes", fix="give --trials")
        return sum(1 for _ in self.points()) * len(self.seeds)

    def _reach(self, axis: Dimension, label: Label) -> dict[str, Label]:
        """A point at which an axis has this label."""
        wanted = {axis.name: label}
        for above in reversed(self.axes):
            if above.name in wanted:
                wanted |= {name: labels[0] for name, labels in above.when.items() if name not in wanted}
        point: dict[str, Label] = {}
        for one in self.axes:
            if one.exists(point):
                point[one.name] = wanted.get(one.name, one.probes()[0])
        return point

    def _changes(self, point: Labels) -> Iterator[tuple[str, Any]]:
        problem = self._problem(point)
        if problem:
            raise ConfigError(problem, file=self.source, key="axes", fix="plan the experiment again")
        for axis in self.axes:
            if axis.name in point:
                yield from axis.changes(point[axis.name]) or ()

    def _problem(self, point: Labels) -> str | None:
        for axis in self.axes:
            given, exists = axis.name in point, axis.exists(point)
            if given and (not exists or axis.changes(point[axis.name]) is None):
                return f"there is no {axis.name}={point[axis.name]} at {describe(point)}"
            if exists and not given:
                return f"{describe(point)} lacks the axis {axis.name}"
        unknown = set(point) - {axis.name for axis in self.axes}
        return f"there is no axis {min(unknown)!r}" if unknown else None


def from_definition(definition: Mapping[str, Any]) -> Study:
    """The study of a definition (``Study.model_dump(mode="json")``).

    Raises:
        StorageError: It is not one, or of another version.
    """
    try:
        return Study.model_validate(definition)
    except ValidationError as error:
        place = f"definition of {definition.get('name', 'a study')}"
        problem = validation_error(error, Study, place).problem
        raise StorageError(problem, file=place, fix="plan the experiment again with this version") from None


def _points(axes: Sequence[Dimension], labels: dict[str, Label]) -> Iterator[dict[str, Label]]:
    if not axes:
        yield labels
    elif not axes[0].exists(labels):
        yield from _points(axes[1:], labels)
    else:
        for label in axes[0].choices() or ():
            yield from _points(axes[1:], {**labels, axes[0].name: label})
