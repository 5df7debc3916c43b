"""What the tables need to know of an experiment file: names, layout, and which setting is the default."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from syncvis.config import load_config, read_yaml, set_dotted, validation_error
from syncvis.errors import ConfigError, WorkbenchError

SCALES = ("smoke", "small", "paper")
METRICS = ("AP", "AP50", "AP75")
Label = str | int | float | bool | None


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Axis(_Section):
    """Values of a configuration key, or named variants (dotted key -> value); either may be per scale."""

    key: str | None = None
    values: Any = None
    variants: Any = None

    def overrides(self, scale: str) -> list[tuple[Label, dict[str, Any]]]:
        """Every label of the axis at that scale, with the configuration values it sets."""
        if self.key is not None:
            return [(as_label(value), {self.key: value}) for value in _at(self.values, scale) or []]
        variants = _at(self.variants, scale) or {}
        return [(name, changes or {}) for name, changes in variants.items()]


class Layout(_Section):
    rows: tuple[str, ...] = ()
    columns: str = "metrics"


class CurveLayout(_Section):
    x: str
    series: str | None = None


class Experiment(_Section):
    """One experiment as tables see it; ``source`` is its file, None if only the ledger knows it."""

    id: str
    title: str = ""
    question: str = ""
    paper_ref: str = ""
    base: str | None = None
    metrics: tuple[str, ...] = Field(METRICS, min_length=1)
    claims: tuple[str, ...] = ()
    reference: str | None = None
    table: Layout = Layout()
    curve: CurveLayout | None = None
    axes: dict[str, Axis] = {}
    source: Path | None = None

    @model_validator(mode="after")
    def _layout_names_axes(self) -> Experiment:
        named = [*self.table.rows, *([] if self.table.columns == "metrics" else [self.table.columns])]
        named += [axis for axis in (self.curve.x, self.curve.series) if axis] if self.curve else []
        for axis in named:
            if axis not in self.axes:
                raise ValueError(f"{axis!r} is not an axis; the axes are {', '.join(self.axes) or '(none)'}")
        return self

    def defaults(self, scale: str) -> dict[str, Label] | None:
        """Axis -> the label that leaves the base config as it is; None if an axis has no such label."""
        if self.base is None or self.source is None or not self.axes:
            return None
        try:
            config = load_config(self.source.parent / self.base.replace("{scale}", scale))
        except WorkbenchError:
            return None  # a base that is gone takes the mark away, not the numbers
        tree = config.model_dump(mode="json")
        found = {name: _unchanging(axis.overrides(scale), tree) for name, axis in self.axes.items()}
        return {name: label[0] for name, label in found.items() if label} if all(found.values()) else None


def read_experiment(path: Path) -> Experiment:
    """Read the keys of an experiment file that tables and figures need.

    Raises:
        ConfigError: The file is not YAML, or one of these keys is missing or wrong.
    """
    tree = read_yaml(path)
    try:
        return Experiment.model_validate({**tree, "source": path})
    except ValidationError as error:
        raise validation_error(error, Experiment, path) from None


def find_experiments(folder: Path, in_ledger: Iterable[str], wanted: Iterable[str] = ()) -> list[Experiment]:
    """The wanted experiments that the ledger knows (all, if none is named), as their files describe them.

    Raises:
        ConfigError: A wanted experiment has no cell in the ledger, or a file is wrong.
    """
    known = sorted(set(in_ledger))
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            listed = f"did you mean {near[0]!r}?" if near else f"run `syncvis sweep run {name}` first"
            raise ConfigError("no such experiment in the ledger", file="command line", key=name, fix=listed)
    described = {e.id: e for e in map(read_experiment, sorted(folder.glob("*.yaml")))}
    return [described.get(name) or Experiment(id=name, title=name) for name in (list(dict.fromkeys(wanted)) or known)]


def as_label(value: Any) -> Label:
    """A value as a hashable label: a list or mapping becomes its JSON text."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | tuple | dict) else value


def _at(choice: Any, scale: str) -> Any:
    per_scale = isinstance(choice, Mapping) and choice and set(choice) <= set(SCALES)
    return choice.get(scale) if per_scale else choice


def _unchanging(overrides: list[tuple[Label, dict[str, Any]]], tree: Mapping[str, Any]) -> tuple[Label] | None:
    for label, changes in overrides:
        changed = dict(tree)
        for key, value in changes.items():
            changed = set_dotted(changed, key, value)
        if changed == tree:
            return (label,)
    return None
