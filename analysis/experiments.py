"""What tables know of an experiment: the ledger's definition of the study, and from its file only the layout."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from syncvis.config import read_yaml, resolve, validation_error
from syncvis.errors import ConfigError, StorageError, WorkbenchError

METRICS = ("AP", "AP50", "AP75")
Label = str | int | float | bool


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Point(_Section):
    label: Any


class Range(_Section):
    low: int | float
    high: int | float
    log: bool = False


class Axis(_Section):
    """What is varied: ``points``, or a ``range``."""

    name: str
    points: tuple[Point, ...] = ()
    range: Range | None = None


class Definition(_Section):
    """A study as the ledger stores it (``studies.definition``); what the tables do not need is ignored.

    Attributes:
        base: tree of the run config that every cell is a difference to.
        notes: why its axes have these values, and what was left out.
        search: how its cells are chosen one by one; None where the whole grid is run.
    """

    title: str = ""
    question: str = ""
    claims: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    notes: tuple[str, ...] = ()
    base: dict[str, Any] = {}
    search: dict[str, Any] | None = None


class TableLayout(_Section):
    rows: tuple[str, ...] = ()
    columns: str = "metrics"


class CurveLayout(_Section):
    x: str
    series: str | None = None


class Layout(_Section):
    """The keys of an experiment file that say how its numbers are shown, and beside which published ones."""

    paper_ref: str = ""
    metrics: tuple[str, ...] = Field(METRICS, min_length=1)
    reference: str | None = None
    table: TableLayout = TableLayout()
    curve: CurveLayout | None = None

    def axes(self) -> list[str]:
        """The axes that it names."""
        columns = [] if self.table.columns == "metrics" else [self.table.columns]
        along = [self.curve.x, self.curve.series] if self.curve else []
        return [*self.table.rows, *columns, *(axis for axis in along if axis)]


@dataclass(frozen=True)
class Experiment:
    """One experiment at one scale; ``source`` is the file of its layout, None if there is none.

    Its ``id`` names the recipe that it stands on, if it does: ``nk@ovis_r50``.
    """

    id: str
    scale: str
    study: Definition
    layout: Layout
    source: Path | None = None

    @property
    def title(self) -> str:
        return self.study.title or self.id

    @property
    def is_searched(self) -> bool:
        return self.study.search is not None

    def is_default(self, config: str) -> bool:
        """Whether a cell's config (JSON) is the base itself, whatever its seed."""
        return self._base is not None and _variant(config) == self._base

    @cached_property
    def _base(self) -> str | None:
        return _variant(json.dumps(self.study.base)) if self.study.base else None


def read_definition(text: str, place: str, name: str) -> Definition:
    """A study's definition; raises StorageError naming the ledger and the study where it is none."""
    try:
        return Definition.model_validate_json(text)
    except ValidationError as error:
        problem = validation_error(error, Definition, place).problem
        fix = "plan the experiment again with this version"
        raise StorageError(f"holds a damaged definition ({problem})", file=place, key=name, fix=fix) from None


def read_layout(path: Path, axes: Iterable[str]) -> Layout:
    """The layout in an experiment file, whose study has these axes.

    Raises:
        ConfigError: The file is not YAML, a key is wrong, or it names an axis that the study has not.
    """
    try:
        layout = Layout.model_validate(read_yaml(path))
    except ValidationError as error:
        raise validation_error(error, Layout, path) from None
    known = list(axes)
    for axis in layout.axes():
        if axis not in known:
            problem = f"{axis!r} is not an axis; the axes are {', '.join(known) or '(none)'}"
            fix = "correct it, or plan the experiment again if its axes have changed"
            raise ConfigError(problem, file=path, key="table or curve", fix=fix)
    return layout


def experiment_id(name: str) -> str:
    """Of an experiment, without the recipe that it stands on: ``nk`` of ``nk@ovis_r50``."""
    return name.partition("@")[0]


def as_label(value: Any) -> Label:
    """A value as a hashable label, never None: null, a list or a mapping becomes its JSON text."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)


def _variant(config: str) -> str | None:
    """Identity of a run config without its seed, by this version; None if it is not valid (any more)."""
    try:
        return resolve({**json.loads(config), "seed": 0}, "config").variant_hash
    except (WorkbenchError, ValueError, TypeError):
        return None  # takes the mark away, not the numbers
