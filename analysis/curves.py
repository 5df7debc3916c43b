"""A metric against a numeric axis (AP versus frames), as numbers: lines, bands, points of each seed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.labels import labels_text
from analysis.statistics import slope
from analysis.tables import Table
from analysis.trials import AXIS
from syncvis.errors import ConfigError

LINE = ("series", "x", "mean", "spread", "n", "planned")


@dataclass(frozen=True)
class Curve:
    """The numbers behind a curve.

    Attributes:
        x: name of the axis along x.
        metric: what is drawn along y, in percent.
        series: names of the lines, in plan order.
        lines: one row per (series, x) with a finite mean, sorted by x: ``mean``, ``spread``, ``n``, ``planned``.
        points: one row per (series, x, seed): ``value``.
    """

    x: str
    metric: str
    series: tuple[str, ...]
    lines: pd.DataFrame
    points: pd.DataFrame

    def slopes(self, series: str) -> dict[int, float]:
        """Seed -> least-squares slope of one line, in metric points per unit of x, of seeds that have every x."""
        points = self.points[self.points["series"] == series].dropna(subset=["value"])
        every = set(self.lines["x"][self.lines["series"] == series])
        complete = {int(str(seed)): g for seed, g in points.groupby("seed") if set(g["x"]) == every}
        return {seed: slope(list(g["x"]), list(g["value"])) for seed, g in complete.items()}


def curve(table: Table) -> Curve:
    """The curve that the experiment asks for.

    Raises:
        ConfigError: It asks for none, or its x axis is not numeric.
    """
    layout = table.experiment.layout.curve
    if layout is None:
        raise ConfigError("asks for no curve", file=table.experiment.source, key="curve", fix="add {x: AXIS}")
    lines = _renamed(table, table.of_metric().dropna(subset=["mean"]))
    points = _renamed(table, table.points[table.points["metric"] == table.metric])
    order = tuple(dict.fromkeys(_renamed(table, table.of_metric())["series"]))
    return Curve(
        x=layout.x,
        metric=table.metric,
        series=tuple(name for name in order if name in set(lines["series"])),
        lines=lines[["series", "x", "mean", "spread", "n", "planned"]].sort_values(
            "x", kind="stable", ignore_index=True
        ),
        points=points[["series", "x", "seed", "value"]].reset_index(drop=True),
    )


def _renamed(table: Table, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with ``x`` as numbers and ``series`` as text; every axis but x is in the name of a line.

    Settings without the axis along x have no place.
    """
    layout = table.experiment.layout.curve
    assert layout is not None
    rows = rows[rows[AXIS + layout.x].notna()]
    try:
        x = pd.to_numeric(rows[AXIS + layout.x], errors="raise")
    except (ValueError, TypeError):
        problem = f"axis {layout.x!r} has values that are not numbers"
        raise ConfigError(problem, file=table.experiment.source, key="curve.x", fix="name a numeric axis") from None
    return rows.assign(x=x, series=[_line(table, row) for row in rows.to_dict("records")])


def _line(table: Table, row: dict[Hashable, Any]) -> str:
    assert table.experiment.layout.curve is not None
    labels = table.labels(row)
    del labels[table.experiment.layout.curve.x]
    return labels_text(labels, bare=True)
