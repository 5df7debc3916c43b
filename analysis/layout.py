"""A table laid out as plain text, before any markup: what each cell, row label and caption says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from analysis.labels import EMPTY, MARK, count_text, label_text, labels_text
from analysis.searches import MIN_TRIALS, OBJECTIVE, Search
from analysis.sources import sources_text
from analysis.tables import Table
from analysis.trials import AXIS
from analysis.verdicts import lead

BEST = 10  # trials of a search that are shown
MAX_LABEL = 120
"""Letters of a setting's name."""
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


STATES = {
    "planned": "planned",
    "running": "running",
    "pruned": "pruned",
    "gave_up": "given up",
    "missing": "without a result",
    "short": "with fewer steps than planned",
}


@dataclass(frozen=True)
class Sheet:
    """A table with what stands around it, ready for any markup; ``name`` is its label for links."""

    name: str
    title: str
    grid: Grid
    caption: str


def sheet(table: Table) -> Sheet:
    """The table of a grid of settings."""
    return Sheet(table.experiment.id, title_text(table), grid(table), caption(table))


def search_sheet(found: Search) -> Sheet:
    """The best trials of a search."""
    table = found.table
    return Sheet(table.experiment.id, f"Best trials: {title_text(table)}", _best_trials(found), search_caption(found))


def mean_text(row: Row) -> str:
    """``41.2 ± 1.3 (n=3/3)``, ``41.2 (n=1/1)``, ``41.2 ± 1.3 (n=2/3†, 1 NaN)``; a dash without any value."""
    n, invalid = int(row["n"]), int(row["invalid"])
    mean = EMPTY if n == 0 else f"{row['mean']:.1f}" if n == 1 else f"{row['mean']:.1f} ± {row['spread']:.1f}"
    return f"{mean} ({count_text(n, int(row['planned']))}{f', {invalid} NaN' if invalid else ''})"


def difference_text(row: Row) -> str:
    """``+0.4 [−0.8, +1.6] (n=3/3)``: the paired difference to the default and its 95 % interval."""
    if row["default"]:
        return ""
    if not math.isfinite(row["difference"]):
        return EMPTY
    n, low, high = int(row["difference_n"]), row["difference_low"], row["difference_high"]
    interval = f" [{_signed(low)}, {_signed(high)}]" if n > 1 else ""
    return f"{_signed(row['difference'])}{interval} ({count_text(n, int(row['planned']))})"


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
    return (table.metric,) if table.columns else table.experiment.layout.metrics


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


def caption(table: Table) -> str:
    """What one must know to read the numbers: scale, data, n, spread, what is missing, and the commits."""
    done = table.done
    data = sorted({f"{name} ({str(print_)[:8]})" for name, print_ in _pairs(done, "data", "data_fingerprint")})
    seeds = ", ".join(str(int(seed)) for seed in sorted(set(done["seed"])))
    parts = [
        f"{', '.join(_shown(table))} in percent at scale {table.scale}",
        f"on {' and '.join(data) or 'no data'}:",
        f"mean ± sample standard deviation (n = seeds with a value / of how many), seeds {seeds or '(none)'}.",
    ]
    if table.frame["best"].any():
        parts.append(_bold(table))
    if table.frame["default"].any():
        parts.append("* default setting." if table.columns else "Δ: paired over seeds, 95 % t interval.")
    if table.published:
        parts.append(f"Published: {table.published}; {_unlike(table)}")
    if (table.frame["n"] < table.frame["planned"]).any():
        parts.append(f"{MARK} fewer seeds than planned.")
    parts += [counts_text(table), *(f"{note}." for note in table.experiment.study.notes)]
    return " ".join(filter(None, [*parts, sources_text(done)]))


def _unlike(table: Table) -> str:
    """In what the published values are of another kind."""
    if table.scale == "paper":
        return "on the official validation videos, ours on a part of the training videos (data.valid)."
    return "other data and model size, so compare differences, not levels."


def counts_text(table: Table) -> str:
    """How many cells are finished, and how many are not in the numbers and why."""
    counts = {text: table.states.get(state, 0) for state, text in STATES.items()} | {"not a number": table.invalid}
    left_out = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
    text = f"{table.finished} of {len(table.cells)} cells finished"
    return f"{text}; not in the numbers: {left_out}." if left_out else f"{text}."


def search_caption(found: Search) -> str:
    """What one must know to read the best trials of a search."""
    table = found.table
    metrics, done = ", ".join(table.experiment.layout.metrics), len(found.finished)
    shown = min(BEST, done)
    return " ".join(
        [
            f"{metrics} in percent at scale {table.scale}: the best {shown} of {done} finished trials.",
            "Each is one run (one seed), and the highest of many is too high on average;",
            f"last column: mean ± sample standard deviation of {table.metric} over all runs of that point",
            "(n = runs with a value / of how many).",
            counts_text(table),
            sources_text(table.done),
        ]
    ).rstrip()


def _best_trials(found: Search) -> Grid:
    table = found.table
    points = {tuple(table.labels(row).values()): row for row in table.of_metric().to_dict("records")}
    header = ("trial", *table.axes, "seed", *table.experiment.layout.metrics, f"{table.metric} of the point")
    rows = []
    for trial in found.ranked()[:BEST]:
        labels = table.labels(trial)
        numbers = [trial[metric] for metric in table.experiment.layout.metrics]
        texts = [str(int(trial["number"])), *map(label_text, labels.values()), str(int(trial["seed"]))]
        texts += [f"{number:.1f}" if math.isfinite(number) else EMPTY for number in numbers]
        rows.append(tuple(Cell(text) for text in [*texts, mean_text(points[tuple(labels.values())])]))
    return Grid(header, tuple(rows), len(table.axes) + 2)


def importance_text(found: Search) -> str:
    """The axes by importance, or why there is none."""
    n = len(found.finished)
    if not found.importance:
        return f"Importance of the axes needs {MIN_TRIALS} finished trials with an {OBJECTIVE}; there are {n}."
    shares = ", ".join(f"{axis} {share:.2f}" for axis, share in found.importance.items())
    best = math.ceil(found.quantile * n)
    how = f"PED-ANOVA, the {best} best of {n} finished trials; shares of 1"
    return f"Importance of the axes for reaching the best {OBJECTIVE} ({how}): {shares}."


def _bold(table: Table) -> str:
    if table.columns:
        return "Bold: best mean of its column."
    paired = lead(table)
    if paired.n < 2:
        return "Bold: best mean; without a spread over seeds it proves nothing."
    apart = "beyond" if paired.excludes_zero else "within"
    return f"Bold: best mean; in {table.metric} its lead over the second is {apart} the seed spread."


def _pairs(frame: pd.DataFrame, first: str, second: str) -> list[tuple[Any, Any]]:
    """Distinct pairs of two columns where the first is text."""
    pairs = zip(frame[first], frame[second], strict=True)
    return list(dict.fromkeys((a, b) for a, b in pairs if isinstance(a, str)))


def title_text(table: Table) -> str:
    """The title, and the place in the paper."""
    place = table.experiment.layout.paper_ref
    return f"{table.experiment.title} ({place})" if place else table.experiment.title


def setting_text(table: Table, row: Row) -> str:
    """The labels of one row on one line, as an axis of a figure names it."""
    text = labels_text(table.labels(row), bare=True)
    short = text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"
    return short + (" (default)" if row["default"] else "")
