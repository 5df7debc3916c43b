"""A table laid out as plain text, before any markup: what each cell, row label and caption says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from analysis.tables import Table
from analysis.trials import AXIS
from analysis.verdicts import lead

EMPTY = "–"
Row = Mapping[Any, Any]
Place = tuple[str, Any]  # a metric, and the value of the axis along the columns if there is one
Places = dict[Place, Row]


@dataclass(frozen=True)
class Cell:
    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table as text, before any markup: ``labels`` leading columns name the row, the rest are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    labels: int


def mean_text(row: Row) -> str:
    """``41.2 ± 1.3 (3)``, ``41.2 (1 seed)``, ``41.2 ± 1.3 (2 of 3, 1 NaN)``; a dash without any value."""
    n, planned, invalid = int(row["n"]), int(row["planned"]), int(row["invalid"])
    count = "1 seed" if n == planned == 1 else f"{n}" if n == planned else f"{n} of {planned}"
    count += f", {invalid} NaN" if invalid else ""
    mean = EMPTY if n == 0 else f"{row['mean']:.1f}" if n == 1 else f"{row['mean']:.1f} ± {row['spread']:.1f}"
    return f"{mean} ({count})"


def difference_text(row: Row) -> str:
    """``+0.4 [−0.8, +1.6]``: the paired difference to the default and its 95 % interval."""
    if row["default"]:
        return ""
    if not math.isfinite(row["difference"]):
        return EMPTY
    if row["difference_n"] < 2:
        return f"{_signed(row['difference'])} (1 seed)"
    low, high = row["difference_low"], row["difference_high"]
    return f"{_signed(row['difference'])} [{_signed(low)}, {_signed(high)}]"


def _signed(number: float) -> str:
    return f"{number:+.1f}".replace("-", "−")


@dataclass(frozen=True)
class Column:
    header: str
    cell: Callable[[Places], Cell]


def grid(table: Table) -> Grid:
    """Lay a table out as its experiment asks: axis values down, metrics or the values of an axis across."""
    records = [row for row in table.frame.to_dict("records") if row["metric"] in _shown(table)]
    settings: dict[tuple[Any, ...], Places] = {}
    for row in records:
        key = tuple(row[AXIS + axis] for axis in table.rows)
        settings.setdefault(key, {})[_place(table, row)] = row
    columns = _columns(table, records)
    header = (*table.rows, *(column.header for column in columns))
    rows = [
        (*_row_labels(table, key, places), *(column.cell(places) for column in columns))
        for key, places in settings.items()
    ]
    return Grid(header, tuple(rows), len(table.rows))


def _shown(table: Table) -> tuple[str, ...]:
    """The metrics of the printed table; the CSV file has all of them."""
    return (table.metric,) if table.columns else table.experiment.metrics


def _place(table: Table, row: Row) -> Place:
    return row["metric"], row[AXIS + table.columns] if table.columns else None


def _columns(table: Table, records: Sequence[Row]) -> list[Column]:
    columns = []
    published = {_place(table, row) for row in records if math.isfinite(row["published"])}
    for place in dict.fromkeys(_place(table, row) for row in records):
        name = f"{place[0]}, {table.columns} = {label_text(place[1])}" if table.columns else place[0]
        columns.append(Column(name, partial(_mean_cell, place, bool(table.columns))))
        if place in published:
            columns.append(Column(f"{name} (published)", partial(_published_cell, place)))
    if not table.columns and any(row["default"] for row in records) and len(records) > 1:
        first = (table.metric, None)
        columns.append(Column(f"Δ{table.metric} to default", lambda places: Cell(difference_text(places[first]))))
    return columns


def _row_labels(table: Table, key: tuple[Any, ...], places: Places) -> list[Cell]:
    texts = [label_text(value) for value in key] or ["all"]
    if not table.columns and any(row["default"] for row in places.values()):
        texts[-1] += " (default)"
    return [Cell(text) for text in texts]


def _mean_cell(place: Place, mark_default: bool, places: Places) -> Cell:
    row = places.get(place)
    if row is None:
        return Cell(EMPTY)
    return Cell(mean_text(row) + (" *" if mark_default and row["default"] else ""), bool(row["best"]))


def _published_cell(place: Place, places: Places) -> Cell:
    value = places[place]["published"] if place in places else math.nan
    return Cell(f"{value:.1f}" if math.isfinite(value) else EMPTY)


def label_text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def caption(table: Table) -> str:
    """What one must know to read the numbers: scale, data, n, spread, what is missing, and the commits."""
    done = table.done
    data = sorted({f"{name} ({str(print_)[:8]})" for name, print_ in _pairs(done, "data", "data_fingerprint")})
    seeds = ", ".join(str(int(seed)) for seed in sorted(set(done["seed"])))
    parts = [
        f"{', '.join(_shown(table))} in percent at scale {table.scale}",
        f"on {' and '.join(data) or 'no data'}:",
        f"mean ± sample standard deviation (number of seeds), seeds {seeds or '(none)'}.",
    ]
    if table.frame["best"].any():
        parts.append(_bold(table))
    if table.frame["default"].any():
        parts.append("* default setting." if table.columns else "Δ: paired over seeds, 95 % t interval.")
    if table.published:
        parts.append(f"Published: {table.published}; other data and model size, so compare differences, not levels.")
    parts.append(f"{table.finished} of {len(table.cells)} cells finished")
    parts[-1] += f", {table.unfinished} not yet, {table.failed} failed." if len(table.cells) > len(done) else "."
    parts += [f"Commit {commits_text(done)}."] if len(done) else []
    return " ".join(parts)


def _bold(table: Table) -> str:
    if table.columns:
        return "Bold: best mean of its column."
    paired = lead(table)
    if paired.n < 2:
        return "Bold: best mean; without a spread over seeds it proves nothing."
    apart = "beyond" if paired.excludes_zero else "within"
    return f"Bold: best mean; in {table.metric} its lead over the second is {apart} the seed spread."


def commits_text(done: pd.DataFrame) -> str:
    """The commits behind some cells, shortened; a commit with uncommitted changes says so."""
    pairs = _pairs(done, "commit", "dirty")
    names = {f"{commit[:10]}{' with uncommitted changes' if dirty is True else ''}" for commit, dirty in pairs}
    return ", ".join(sorted(names)) or "unknown"


def _pairs(frame: pd.DataFrame, first: str, second: str) -> list[tuple[Any, Any]]:
    """Distinct pairs of two columns where the first is text."""
    pairs = zip(frame[first], frame[second], strict=True)
    return list(dict.fromkeys((a, b) for a, b in pairs if isinstance(a, str)))


def title_text(table: Table) -> str:
    """The title, and the place in the paper."""
    place = f" ({table.experiment.paper_ref})" if table.experiment.paper_ref else ""
    return f"{table.experiment.title or table.experiment.id}{place}"


def setting_text(table: Table, row: Row) -> str:
    """The labels of one row on one line, as an axis of a figure names it."""
    labels = table.labels(row)
    texts = [label_text(v) if len(labels) == 1 else f"{axis} = {label_text(v)}" for axis, v in labels.items()]
    return (", ".join(texts) or "all")[:60] + (" (default)" if row["default"] else "")
