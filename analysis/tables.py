"""Ablation tables as numbers: per setting and metric the spread, n, difference and published value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.experiments import Experiment, Label
from analysis.reference import COLUMNS, of_recipe, published_row, reference_for
from analysis.statistics import Summary, paired_difference, summarise
from analysis.trials import AXIS, Trials, axis_columns, labelled, used_axes
from syncvis.errors import StorageError

Setting = tuple[Label | None, ...]


@dataclass(frozen=True)
class Table:
    """The numbers of one experiment at one scale.

    Attributes:
        experiment: what was asked, and the layout.
        axes: names of the axes, in the study's order.
        frame: one row per (setting, metric), settings in plan order: ``axis.<name>`` (None where the setting has
            no such axis), ``metric``, ``mean``, ``spread``, ``n``, ``planned``, ``invalid``, ``low``, ``high`` (95 %
            interval of the mean), ``difference*`` (to the default, paired over seeds), ``published``, ``default``,
            ``best``.
        points: one row per (setting, seed, metric): ``value``, what the means are over.
        cells: the cells behind it, as in :class:`~analysis.trials.Trials`.
        published: where the published values come from; empty if none is shown.
    """

    experiment: Experiment
    axes: tuple[str, ...]
    frame: pd.DataFrame
    points: pd.DataFrame
    cells: pd.DataFrame
    published: str

    @property
    def scale(self) -> str:
        return self.experiment.scale

    @property
    def metric(self) -> str:
        """The metric that figures and verdicts are about: the first one."""
        return self.experiment.layout.metrics[0]

    @property
    def columns(self) -> str | None:
        """The axis along the columns; None when the metrics are the columns."""
        layout = self.experiment.layout.table.columns
        return None if layout == "metrics" else layout

    @property
    def rows(self) -> tuple[str, ...]:
        """The axes along the rows: the layout's, then every other one, so that none is averaged away."""
        first = self.experiment.layout.table.rows
        return (*first, *(axis for axis in self.axes if axis not in first and axis != self.columns))

    @property
    def states(self) -> dict[str, int]:
        """How many cells are in each state."""
        return dict(sorted(Counter(self.cells["state"]).items()))

    @property
    def finished(self) -> int:
        return self.states.get("done", 0)

    @property
    def done(self) -> pd.DataFrame:
        return self.cells[self.cells["state"] == "done"]

    @property
    def invalid(self) -> int:
        """Finished cells whose first metric is not finite."""
        return int(self.of_metric()["invalid"].sum())

    def labels(self, row: Mapping[Any, Any]) -> dict[str, Label | None]:
        """Axis -> value of one row of ``frame`` or ``points``; None where it has no such axis."""
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


def ablation_table(trials: Trials, experiment: Experiment) -> Table:
    """Aggregate one experiment over its seeds; only finished cells of full length enter, the others are counted.

    Raises:
        ConfigError: An unknown reference table.
        StorageError: Two cells claim the same setting and seed.
    """
    found = _select(trials.cells, experiment)
    axes = _axes(found, experiment)
    cells = _with_axes(found, axes)
    settings = _settings(cells, axes)
    values = values_of(trials, experiment)
    default = next((key for key, group in settings.items() if _is_default(group, experiment)), None)
    published = _reference(experiment)
    rows, points = [], []
    for metric in experiment.layout.metrics:
        by_seed = {key: _by_seed(group, metric, values) for key, group in settings.items()}
        for key, group in settings.items():
            labels = dict(zip(axes, key, strict=True))
            columns = {AXIS + axis: label for axis, label in labels.items()}
            points += [{**columns, "seed": s, "metric": metric, "value": v} for s, v in by_seed[key].items()]
            summary = summarise(list(by_seed[key].values()), planned=len(group))
            against = by_seed[default] if default is not None and key != default else {}
            row = {**columns, "metric": metric, **asdict(summary), **_difference(by_seed[key], against)}
            row["published"] = _published(published, labels, group["method"].iloc[0], metric)
            rows.append({**row, "default": key == default})
    frame = labelled(rows, [AXIS + axis for axis in axes])
    columns_axis = experiment.layout.table.columns
    frame["best"] = _best(frame, ["metric", *([AXIS + columns_axis] if columns_axis != "metrics" else [])])
    point_columns = [*(AXIS + axis for axis in axes), "seed", "metric", "value"]
    shown = published is not None and bool(frame["published"].notna().any())
    return Table(
        experiment=experiment,
        axes=axes,
        frame=frame,
        points=labelled(points, [AXIS + axis for axis in axes]).reindex(columns=point_columns),
        cells=cells,
        published=_sources(published) if shown and published is not None else "",
    )


def values_of(trials: Trials, experiment: Experiment) -> dict[tuple[str, str], float]:
    """(cell hash, metric) -> value of the experiment's finished cells."""
    found = _select(trials.values, experiment)
    return {(c, m): v for c, m, v in zip(found["cell_hash"], found["metric"], found["value"], strict=True)}


def _select(frame: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    wanted = (frame["experiment"] == experiment.id) & (frame["scale"] == experiment.scale)
    return frame[wanted].reset_index(drop=True)


def _axes(cells: pd.DataFrame, experiment: Experiment) -> tuple[str, ...]:
    """Those of the study, then any other that a cell has."""
    ordered = [axis.name for axis in experiment.study.axes]
    used = [name.removeprefix(AXIS) for name in used_axes(cells)]
    return (*ordered, *(axis for axis in used if axis not in ordered))


def _with_axes(cells: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """Cells with these axis columns and no other."""
    kept = [str(name) for name in cells if name not in axis_columns(cells)]
    nothing = pd.Series([None] * len(cells), dtype=object)
    return cells[kept].assign(**{AXIS + axis: cells.get(AXIS + axis, nothing) for axis in axes})


def _is_default(group: pd.DataFrame, experiment: Experiment) -> bool:
    config = group["config"].iloc[0]
    return isinstance(config, str) and experiment.is_default(config)


def _settings(cells: pd.DataFrame, axes: tuple[str, ...]) -> dict[Setting, pd.DataFrame]:
    """Cells by setting, in plan order: seeds are outermost in the ledger."""
    members: dict[Setting, list[int]] = {}
    for index, row in enumerate(cells.to_dict("records")):
        members.setdefault(tuple(row[AXIS + axis] for axis in axes), []).append(index)
    groups = {key: cells.iloc[indices] for key, indices in members.items()}
    for key, group in groups.items():
        twice = group["seed"][group["seed"].notna() & group["seed"].duplicated()]
        if not twice.empty:
            labels = zip(axes, key, strict=True)
            where = ", ".join(f"{axis}={value}" for axis, value in labels if value is not None)
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


def _reference(experiment: Experiment) -> pd.DataFrame | None:
    """The published rows that may stand beside ours; at the scale of the paper those of the same data and backbone."""
    if not experiment.layout.reference:
        return None
    rows = reference_for(experiment.layout.reference)
    return of_recipe(rows, experiment.study.base) if experiment.scale == "paper" else rows


def _published(rows: pd.DataFrame | None, labels: Mapping[str, Label | None], method: Any, metric: str) -> float:
    there = {axis: label for axis, label in labels.items() if label is not None}
    row = published_row(rows, there, method) if rows is not None and metric in COLUMNS else None
    return math.nan if row is None else float(row[COLUMNS[metric]])


def _best(frame: pd.DataFrame, within: list[str]) -> pd.Series:
    top = frame.groupby(within, dropna=False, sort=False)["mean"].transform("max")
    several = frame.groupby(within, dropna=False, sort=False)["mean"].transform("count") > 1
    return (frame["mean"] == top) & several


def _sources(rows: pd.DataFrame) -> str:
    parts = rows[["backbone", "dataset", "split"]].drop_duplicates().agg(" ".join, axis=1)
    return f"{', '.join(parts)} ({'; '.join(rows['source'].drop_duplicates())})"
