"""Ablation tables as numbers: per setting and metric the spread, n, difference and published value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.experiments import SCALES, Experiment, Label
from analysis.reference import COLUMNS, published_row, reference_for
from analysis.statistics import Summary, paired_difference, summarise
from analysis.trials import AXIS, Trials, axis_columns, labelled
from syncvis.errors import ConfigError, StorageError

Setting = tuple[Label, ...]


@dataclass(frozen=True)
class Table:
    """The numbers of one experiment at one scale.

    Attributes:
        experiment: what was asked, and the layout.
        scale: which size of the experiment.
        axes: names of the axes, in file order.
        frame: one row per (setting, metric), settings in file order: ``axis.<name>``, ``metric``, ``mean``,
            ``spread``, ``n``, ``planned``, ``invalid``, ``low``, ``high`` (95 % interval of the mean),
            ``difference*`` (to the default, paired over seeds), ``published``, ``default``, ``best``.
        points: one row per (setting, seed, metric): ``value``, what the means are over.
        cells: the cells behind it, as in :class:`~analysis.trials.Trials`.
        published: where the published values come from; empty if none is shown.
    """

    experiment: Experiment
    scale: str
    axes: tuple[str, ...]
    frame: pd.DataFrame
    points: pd.DataFrame
    cells: pd.DataFrame
    published: str

    @property
    def metric(self) -> str:
        """The metric that figures and verdicts are about: the first one."""
        return self.experiment.metrics[0]

    @property
    def columns(self) -> str | None:
        """The axis along the columns; None when the metrics are the columns."""
        layout = self.experiment.table.columns
        return None if layout == "metrics" else layout

    @property
    def rows(self) -> tuple[str, ...]:
        """The axes along the rows: the layout's, then every other one, so that none is averaged away."""
        first = self.experiment.table.rows
        return (*first, *(axis for axis in self.axes if axis not in first and axis != self.columns))

    @property
    def states(self) -> dict[str, int]:
        """How many cells are in each state."""
        return dict(sorted(Counter(self.cells["state"]).items()))

    @property
    def finished(self) -> int:
        return self.states.get("done", 0)

    @property
    def failed(self) -> int:
        """Cells that gave up or lost their result."""
        return self.states.get("gave_up", 0) + self.states.get("missing", 0)

    @property
    def unfinished(self) -> int:
        """Cells that are planned or running."""
        return len(self.cells) - self.finished - self.failed

    @property
    def done(self) -> pd.DataFrame:
        return self.cells[self.cells["state"] == "done"]

    def labels(self, row: Mapping[Any, Any]) -> dict[str, Label]:
        """Axis -> value of one row of ``frame`` or ``points``."""
        return {axis: row[AXIS + axis] for axis in self.axes}

    def seeds(self, row: Mapping[Any, Any]) -> dict[int, float]:
        """Seed -> value of the setting and metric of one row of ``frame``."""
        wanted = (*self.labels(row).values(), row["metric"])
        points = self.points.to_dict("records")
        mine = [p for p in points if (*self.labels(p).values(), p["metric"]) == wanted]
        return {int(p["seed"]): p["value"] for p in mine}

    def ranked(self) -> list[dict[Any, Any]]:
        """Rows of the first metric that have a mean, best first."""
        rows = self.of_metric().dropna(subset=["mean"])
        return rows.sort_values("mean", ascending=False, kind="stable").to_dict("records")

    def of_metric(self, metric: str | None = None) -> pd.DataFrame:
        """The rows of one metric, the first one if none is named."""
        return self.frame[self.frame["metric"] == (metric or self.metric)]


def pick_scale(trials: Trials, experiment: Experiment, scale: str | None = None) -> str:
    """The asked scale, or the largest one of the experiment that has a finished cell, or its first.

    Raises:
        ConfigError: The ledger has no cell of the experiment at that scale.
    """
    cells = trials.cells[trials.cells["experiment"] == experiment.id]
    present: list[str] = sorted(set(cells["scale"]), key=lambda s: SCALES.index(s) if s in SCALES else len(SCALES))
    if scale is not None and scale in present:
        return scale
    if scale is not None or not present:
        problem = f"the ledger has no cell at scale {scale!r}" if scale else "the ledger has no cell"
        fix = f"use --scale {' or '.join(present)}" if present else f"run `syncvis sweep run {experiment.id}`"
        raise ConfigError(problem, file="experiment", key=experiment.id, fix=fix)
    finished = [s for s in present if ((cells["scale"] == s) & (cells["state"] == "done")).any()]
    return finished[-1] if finished else present[0]


def ablation_table(trials: Trials, experiment: Experiment, scale: str | None = None) -> Table:
    """Aggregate one experiment over its seeds; cells that are not finished are counted, never averaged.

    Raises:
        ConfigError: No such scale in the ledger, or an unknown reference table.
        StorageError: Two cells claim the same setting and seed.
    """
    scale = pick_scale(trials, experiment, scale)
    cells = _select(trials.cells, experiment, scale)
    axes = _axes(cells, experiment)
    cells = cells.drop(columns=[name for name in axis_columns(cells) if name.removeprefix(AXIS) not in axes])
    settings = _settings(cells, axes)
    found = _select(trials.values, experiment, scale)
    values = {(c, m): v for c, m, v in zip(found["cell_hash"], found["metric"], found["value"], strict=True)}
    defaults = experiment.defaults(scale)
    default = tuple(defaults.get(axis) for axis in axes) if defaults else None
    published = reference_for(experiment.reference) if experiment.reference else None
    rows, points = [], []
    for metric in experiment.metrics:
        by_seed = {key: _by_seed(group, metric, values) for key, group in settings.items()}
        for key, group in settings.items():
            labels = dict(zip(axes, key, strict=True))
            columns = {AXIS + axis: label for axis, label in labels.items()}
            points += [{**columns, "seed": s, "metric": metric, "value": v} for s, v in by_seed[key].items()]
            summary = summarise(list(by_seed[key].values()), planned=len(group))
            against = by_seed[default] if default in by_seed and key != default else {}
            row = {**columns, "metric": metric, **asdict(summary), **_difference(by_seed[key], against)}
            row["published"] = _published(published, labels, group["method"].iloc[0], metric)
            rows.append({**row, "default": key == default})
    frame = labelled(rows, [AXIS + axis for axis in axes])
    columns_axis = experiment.table.columns
    frame["best"] = _best(frame, ["metric", *([AXIS + columns_axis] if columns_axis != "metrics" else [])])
    point_columns = [*(AXIS + axis for axis in axes), "seed", "metric", "value"]
    shown = published is not None and bool(frame["published"].notna().any())
    return Table(
        experiment=experiment,
        scale=scale,
        axes=axes,
        frame=frame,
        points=labelled(points, [AXIS + axis for axis in axes]).reindex(columns=point_columns),
        cells=cells,
        published=_sources(published) if shown and published is not None else "",
    )


def _select(frame: pd.DataFrame, experiment: Experiment, scale: str) -> pd.DataFrame:
    wanted = (frame["experiment"] == experiment.id) & (frame["scale"] == scale)
    return frame[wanted].reset_index(drop=True)


def _axes(cells: pd.DataFrame, experiment: Experiment) -> tuple[str, ...]:
    used = [name.removeprefix(AXIS) for name in axis_columns(cells) if cells[name].notna().any()]
    ordered = [axis for axis in experiment.axes if axis in used]
    return (*ordered, *(axis for axis in used if axis not in ordered))


def _settings(cells: pd.DataFrame, axes: tuple[str, ...]) -> dict[Setting, pd.DataFrame]:
    """Cells by setting, in file order: seeds are outermost in the ledger."""
    members: dict[Setting, list[int]] = {}
    for index, row in enumerate(cells.to_dict("records")):
        members.setdefault(tuple(row[AXIS + axis] for axis in axes), []).append(index)
    groups = {key: cells.iloc[indices] for key, indices in members.items()}
    for key, group in groups.items():
        twice = group["seed"][group["seed"].notna() & group["seed"].duplicated()]
        if not twice.empty:
            where = ", ".join(f"{axis}={value}" for axis, value in zip(axes, key, strict=True))
            problem = f"two different runs claim seed {int(twice.iloc[0])} of {where}"
            fix = "plan the experiment again with `syncvis sweep run`, so that old cells leave it"
            raise StorageError(problem, file="ledger", key=str(group["experiment"].iloc[0]), fix=fix)
    return groups


def _by_seed(group: pd.DataFrame, metric: str, values: Mapping[tuple[str, str], float]) -> dict[int, float]:
    """Seed -> value of every finished cell; NaN where a finished cell has no such metric."""
    done = group[group["state"] == "done"]
    return {
        int(seed): values.get((cell, metric), math.nan)
        for seed, cell in zip(done["seed"], done["cell_hash"], strict=True)
    }


def _difference(ours: Mapping[int, float], default: Mapping[int, float]) -> dict[str, float]:
    pair: Summary = paired_difference(ours, default) if ours and default else summarise([])
    numbers = {"": pair.mean, "_spread": pair.spread, "_n": pair.n, "_low": pair.low, "_high": pair.high}
    return {f"difference{name}": number for name, number in numbers.items()}


def _published(rows: pd.DataFrame | None, labels: Mapping[str, Label], method: Any, metric: str) -> float:
    row = published_row(rows, labels, method) if rows is not None and metric in COLUMNS else None
    return math.nan if row is None else float(row[COLUMNS[metric]])


def _best(frame: pd.DataFrame, within: list[str]) -> pd.Series:
    top = frame.groupby(within, dropna=False, sort=False)["mean"].transform("max")
    several = frame.groupby(within, dropna=False, sort=False)["mean"].transform("count") > 1
    return (frame["mean"] == top) & several


def _sources(rows: pd.DataFrame) -> str:
    parts = rows[["backbone", "dataset", "split"]].drop_duplicates().agg(" ".join, axis=1)
    return f"{', '.join(parts)} ({'; '.join(rows['source'].drop_duplicates())})"
