"""``syncvis sweep plan``: how much there is to run, and what it costs by what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sweeps.commands.options import OUT, Experiments, Out, ScaleOption, Storage, find_ledger, plain, say
from sweeps.cost import Left, Rate, Rates, kind_of, last_steps, spent
from sweeps.database import Row
from sweeps.experiment import Cell, find_experiments, load_experiment, plan_cells
from sweeps.progress import ENDED
from sweeps.runner import SweepOptions
from sweeps.view import StudyKey, View

NOT_MEASURED = "not measured"
_NAMES = {"released": "given back", "died": "lost"}

Workers = Annotated[
    int | None, typer.Option(min=1, help="Share the hours out to so many; default: as `run` would on this machine.")
]
Price = Annotated[float | None, typer.Option(min=0, metavar="PER_HOUR", help="Price of an hour of a GPU or worker.")]


def plan(
    experiments: Experiments = None,
    scale: ScaleOption = "small",
    workers: Workers = None,
    price: Price = None,
    out: Out = OUT,
    storage: Storage = None,
) -> None:
    """Show how many cells each experiment has, how many are left, and the hours; starts nothing."""
    planned = [plan_cells(load_experiment(path, scale), scale) for path in find_experiments(experiments or [])]
    plans = {StudyKey(cells[0].experiment, scale): cells for cells in planned}
    ledger, console = find_ledger(out, storage), Console()
    view = ledger.view if ledger else None
    table, left = _table(plans, Forecast(view, list(plans)), price)
    console.print(table)
    if left.hours:
        say(console, _hours_left(left, workers or SweepOptions().size))
    if view is not None:
        say(console, _hours_spent(view, list(plans), price))


def _table(plans: Mapping[StudyKey, list[Cell]], forecast: Forecast, price: float | None) -> tuple[Table, Left]:
    """A line for each study and one for all; cells that stand in an earlier line are not new, and not left again."""
    table = Table("study", "cells", "new", "done", "pruned", "given up", "left", "s/step (training)", "hours")
    if price is not None:
        table.add_column("cost")
    seen: dict[str, Cell] = {}
    total = Left()
    for key, cells in plans.items():
        new = [cell for cell in cells if cell.hash not in seen]
        left = forecast.left(key, new)
        counts = map(str, (len(cells), len(new), *forecast.counts(cells), len(forecast.open(new))))
        table.add_row(plain(key.name), *counts, forecast.rate(key, new), *_hours(left, price))
        seen |= {cell.hash: cell for cell in cells}
        total += left
    every = list(seen.values())
    table.add_section()
    counts = map(str, (len(every), *forecast.counts(every), len(forecast.open(every))))
    table.add_row("all, each cell once", "", *counts, "", *_hours(total, price))
    return table, total


@dataclass(frozen=True)
class _Known:
    """What the ledger knows of the planned cells."""

    rows: dict[str, Row]
    steps: dict[str, int]


class Forecast:
    """What is left of planned cells, by the ledger's measurements; without a ledger everything is."""

    def __init__(self, view: View | None, keys: Sequence[StudyKey]):
        self._rates = Rates(view, keys) if view else None
        self._known = _known(view) if view else _Known({}, {})

    def counts(self, cells: Sequence[Cell]) -> list[int]:
        """How many are done, pruned and given up."""
        states = [self._state(cell) for cell in cells]
        return [states.count(state) for state in ENDED]

    def open(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if self._state(cell) not in ENDED]

    def left(self, key: StudyKey, cells: Sequence[Cell]) -> Left:
        """Of the cells that are open; steps that are done are not left."""
        total = Left()
        for cell in self.open(cells):
            rate = self._rate(key, cell)
            steps = max(cell.config.train.steps - self._known.steps.get(cell.hash, 0), 0)
            total += Left(rate.seconds * steps / 3600) if rate else Left(unmeasured=1)
        return total

    def rate(self, key: StudyKey, cells: Sequence[Cell]) -> str:
        """The study's own rate, or the range of those that are taken for its open cells."""
        own = self._rates.of(key) if self._rates else None
        found = [own] if own else [rate for cell in self.open(cells) if (rate := self._rate(key, cell))]
        if not found:
            return NOT_MEASURED
        low, high = min(found, key=lambda r: r.seconds), max(found, key=lambda r: r.seconds)
        return _rate_text(low) if low == high else f"{_rate_text(low)} to {_rate_text(high)}"

    def _rate(self, key: StudyKey, cell: Cell) -> Rate | None:
        return self._rates.of(key, kind_of(cell.config.model_dump(mode="json"))) if self._rates else None

    def _state(self, cell: Cell) -> str:
        return str(self._known.rows.get(cell.hash, {"state": "planned"})["state"])


def _known(view: View) -> _Known:
    rows = {row["cell_hash"]: row for row in view.cells()}
    begun = [h for h, row in rows.items() if row["state"] not in ENDED and row["attempt"]]
    return _Known(rows, last_steps(view, begun))


def _rate_text(rate: Rate) -> str:
    return f"{rate.seconds:.3g} ({rate.training:.3g})"


def _hours(left: Left, price: float | None) -> list[str]:
    """Hours, and with a price the cost; cells without a measurement are named, not guessed."""
    rest = f"{left.unmeasured} cells {NOT_MEASURED}" if left.unmeasured else ""
    values = [left.hours] if price is None else [left.hours, left.hours * price]
    if rest and not left.hours:
        return [NOT_MEASURED] * len(values)
    return [f"{value:.2f}" + (f" + {rest}" if rest else "") for value in values]


def _hours_left(left: Left, workers: int) -> str:
    rest = f", and {left.unmeasured} cells that were {NOT_MEASURED}" if left.unmeasured else ""
    return f"left: {left.hours:.2f} hours of one worker, {left.hours / workers:.2f} with {workers}{rest}"


def _hours_spent(view: View, keys: Sequence[StudyKey], price: float | None) -> str:
    known = view.studies()
    parts = spent(view, [key for key in keys if key in known])
    hours = sum(seconds for _, seconds in parts.values()) / 3600
    cost = "" if price is None else f", cost {hours * price:.2f}"
    details = ", ".join(f"{_NAMES.get(name, name)} {s / 3600:.2f} h in {n}" for name, (n, s) in sorted(parts.items()))
    return f"spent: {hours:.2f} hours of workers{cost}" + (f" ({details} attempts)" if details else "")
