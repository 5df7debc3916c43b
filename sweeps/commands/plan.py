"""``syncvis sweep plan``: how much there is to run, and what it costs by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from sweeps.commands.options import (
    OUT,
    Experiments,
    On,
    Out,
    Plugins,
    Sampler,
    ScaleOption,
    Storage,
    Trials,
    find_ledger,
    studies_of,
)
from sweeps.cost import Left, Rate, spent
from sweeps.definition import Cell, Study
from sweeps.forecast import Forecast, Plan, plan_of
from sweeps.plugins import missing_flags
from sweeps.printing import plain, say
from sweeps.readiness import left, look_at
from sweeps.runner import SweepOptions
from sweeps.view import StudyKey, View
from syncvis.references import allow

NOT_MEASURED = "not measured"
NO_NUMBER = "–"
_NAMES = {"released": "given back", "died": "lost"}

Workers = Annotated[
    int | None, typer.Option(min=1, help="Share the hours out to so many; default: as `run` would on this machine.")
]
Price = Annotated[float | None, typer.Option(min=0, metavar="PER_HOUR", help="Price of an hour of a GPU or worker.")]


def plan(
    experiments: Experiments = None,
    scale: ScaleOption = "small",
    on: On = None,
    workers: Workers = None,
    price: Price = None,
    sampler: Sampler = None,
    trials: Trials = None,
    out: Out = OUT,
    storage: Storage = None,
    plugins: Plugins = None,
) -> None:
    """Show how many cells each experiment has, how many are left, and the hours; starts nothing."""
    allow(plugins)
    studies = studies_of(experiments, scale, on, sampler, trials)
    ledger, console = find_ledger(out, storage), Console()
    view = ledger.view if ledger else None
    plans = [plan_of(study, view) for study in studies]
    keys = [plan.key for plan in plans]
    table, left = _table(plans, Forecast(view, keys), price)
    console.print(table)
    if left.unmeasured:
        say(console, f"{NO_NUMBER} {NOT_MEASURED} yet: no cell of that kind is done")
    if left.hours:
        say(console, _hours_left(left, workers or SweepOptions().size))
    if view is not None:
        say(console, _hours_spent(view, keys, price))
    _refuse_unready(studies, view, console)


def _refuse_unready(studies: Sequence[Study], view: View | None, console: Console) -> None:
    """What ``run`` would refuse, as an error; what is only not on this machine is said."""
    configs = left(studies, view)
    if not configs:
        return
    if flags := missing_flags(configs):
        say(console, f"note: cells name code from outside the workbench; `run` needs {flags}")
    found = look_at(configs)
    for note in found.notes:
        say(console, f"note: {note}")
    for problem in found.problems:
        if problem.is_absent:
            say(console, f"not on this machine: {problem.error}")
    found.wrong.refuse()


def _table(plans: Sequence[Plan], forecast: Forecast, price: float | None) -> tuple[Table, Left]:
    """A line for each study and one for all; cells that stand in an earlier line are not new, and not left again."""
    counts = ("cells", "new", "done", "pruned", "given up", "left")
    columns = Column("study", no_wrap=True), *counts, "s/step", "hours"
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    if price is not None:
        table.add_column("cost")
    seen: dict[str, Cell] = {}
    total, unchosen = Left(), 0
    for plan in plans:
        new = [cell for cell in plan.cells if cell.hash not in seen]
        left, rates = forecast.left(plan, new), forecast.rates(plan, new)
        cells = str(len(plan.cells) + plan.unchosen)
        numbers = _numbers(forecast, plan.cells, new, plan.unchosen)
        table.add_row(plain(plan.key.name), cells, *numbers, _rates(rates), *_hours(left, price))
        seen |= {cell.hash: cell for cell in plan.cells}
        total, unchosen = total + left, unchosen + plan.unchosen
    every = list(seen.values())
    table.add_section()
    table.add_row("all, each cell once", "", *_numbers(forecast, every, every, unchosen), "", *_hours(total, price))
    return table, total


def _numbers(forecast: Forecast, cells: Sequence[Cell], new: Sequence[Cell], unchosen: int) -> list[str]:
    """The columns from "new" to "left"; cells that a search has not chosen yet are new and left."""
    numbers = len(new) + unchosen, *forecast.counts(cells), len(forecast.open(new)) + unchosen
    return list(map(str, numbers))


def _rates(rates: Sequence[Rate]) -> str:
    """One, or the range of several."""
    if not rates:
        return NO_NUMBER
    low, high = min(rates, key=lambda r: r.seconds), max(rates, key=lambda r: r.seconds)
    return _rate(low) if low == high else f"{_rate(low)} to {_rate(high)}"


def _rate(rate: Rate) -> str:
    return f"{rate.seconds:.3g} ({rate.training:.3g})"


def _hours(left: Left, price: float | None) -> list[str]:
    """Hours, and with a price the cost; cells without a measurement are named, not guessed."""
    rest = f"{left.unmeasured} cells {NOT_MEASURED}" if left.unmeasured else ""
    values = [left.hours] if price is None else [left.hours, left.hours * price]
    if rest and not left.hours:
        return [NO_NUMBER] * len(values)
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
