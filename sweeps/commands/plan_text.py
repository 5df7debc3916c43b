"""The plan of a sweep as text: a table of studies, and what its numbers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sweeps.commands.layout import COUNTS, NO_NUMBER, Layout, Texts, fitting
from sweeps.cost import Left, Rate, spent
from sweeps.definition import Cell, Study
from sweeps.estimate import PEAK, Estimate
from sweeps.forecast import Forecast, Plan
from sweeps.view import StudyKey, View

ABOUT = "~"
"""Before a number that was not measured."""
_NAMES = {"released": "given back", "died": "lost"}


@dataclass(frozen=True)
class Terms:
    """What hours are called and cost.

    Attributes:
        estimated: whether they are those of GPUs, and follow from FLOPs where nothing is measured.
        price: of one; None: nobody asks for the cost.
        devices: that the hours are shared out to.
    """

    estimated: bool
    price: float | None
    devices: int

    @property
    def unit(self) -> str:
        return "GPU-hours" if self.estimated else "hours"

    @property
    def unknown(self) -> str:
        """What cells are without hours."""
        return "not counted" if self.estimated else "not measured"


def table(plans: Sequence[Plan], forecast: Forecast, terms: Terms, console: Console) -> tuple[Table, Left]:
    """A line for each study and one for all; cells that stand in an earlier line are not new, and not left again.

    Of a table that is too wide for the console see :func:`sweeps.commands.layout.fitting`.
    """
    rows, total = _rows(plans, forecast, terms)
    header = ["study", *COUNTS, "s/step", terms.unit, *(["cost"] if terms.price is not None else [])]
    return fitting(Layout(header, rows), console), total


def lines(left: Left, estimate: Estimate | None, terms: Terms) -> Iterator[str]:
    """What the numbers of the table are, and the hours that are left."""
    if left.unmeasured:
        why = (
            "code of one's own that is not allowed, or a model that cannot be"
            if terms.estimated
            else "no cell of that kind is done"
        )
        yield f"{NO_NUMBER} {terms.unknown}{'' if terms.estimated else ' yet'}: {why}"
    if left.estimated and estimate is not None:
        yield _basis(estimate)
    if terms.estimated and terms.price is not None:
        yield f"cost at {terms.price:.2f} per GPU-hour (--price)"
    if left.hours:
        yield _hours_left(left, terms)


def notes(studies: Sequence[Study]) -> list[str]:
    """Why axes have the values that they have, each once."""
    return list(dict.fromkeys(note for study in studies for note in study.notes))


def spent_line(view: View, keys: Sequence[StudyKey], terms: Terms) -> str:
    """Hours and cost so far, failed attempts included."""
    known = view.studies()
    parts = spent(view, [key for key in keys if key in known])
    hours = sum(seconds for _, seconds in parts.values()) / 3600
    cost = "" if terms.price is None else f", cost {hours * terms.price:,.2f}"
    details = ", ".join(f"{_NAMES.get(name, name)} {s / 3600:.2f} h in {n}" for name, (n, s) in sorted(parts.items()))
    unit = terms.unit if terms.estimated else "hours of processes"
    return f"spent: {hours:,.2f} {unit}{cost}" + (f" ({details} attempts)" if details else "")


def _rows(plans: Sequence[Plan], forecast: Forecast, terms: Terms) -> tuple[list[Texts], Left]:
    seen: dict[str, Cell] = {}
    rows, total, unchosen = list[Texts](), Left(), 0
    for plan in plans:
        new = [cell for cell in plan.cells if cell.hash not in seen]
        left, rates = forecast.left(plan, new), forecast.rates(plan, new)
        numbers = _numbers(forecast, plan.cells, new, plan.unchosen)
        rows.append([plan.key.name, *numbers, _rates(rates), *_hours(left, terms)])
        seen |= {cell.hash: cell for cell in plan.cells}
        total, unchosen = total + left, unchosen + plan.unchosen
    every = list(seen.values())
    rows.append(["all, each cell once", *_numbers(forecast, every, every, unchosen), "", *_hours(total, terms)])
    return rows, total


def _numbers(forecast: Forecast, cells: Sequence[Cell], new: Sequence[Cell], unchosen: int) -> Texts:
    """The columns from "cells" to "left"; cells that a search has not chosen yet are new and left."""
    all_new = len(new) + unchosen
    numbers = len(cells) + unchosen, all_new, *forecast.counts(cells), len(forecast.open(new)) + unchosen
    return list(map(str, numbers))


def _rates(rates: Sequence[Rate]) -> str:
    """One, or the range of several."""
    if not rates:
        return NO_NUMBER
    low, high = min(rates, key=lambda r: r.seconds), max(rates, key=lambda r: r.seconds)
    return _rate(low) if low == high else f"{_rate(low)} to {_rate(high)}"


def _rate(rate: Rate) -> str:
    return f"{rate.seconds:.3g} ({rate.training:.3g})"


def _hours(left: Left, terms: Terms) -> Texts:
    """Hours, and with a price the cost; cells that nothing is known of are named, not guessed."""
    rest = _unknown(left, terms) if left.unmeasured else ""
    values = [left.hours] if terms.price is None else [left.hours, left.hours * terms.price]
    if rest and not left.hours:
        return [NO_NUMBER] * len(values)
    return [_number(value, left) + (f" + {rest}" if rest else "") for value in values]


def _number(value: float, left: Left) -> str:
    """Of hours or money; with the digits that an estimate deserves where it is one."""
    if not left.estimated:
        return f"{value:,.2f}"
    return f"{ABOUT}{float(f'{value:.3g}'):,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _basis(estimate: Estimate) -> str:
    share = f"{100 * estimate.tflops / PEAK:.1f} % of an A100's {PEAK:.0f} TFLOP/s half-precision peak"
    return (
        f"{ABOUT} estimated from counted FLOPs at {estimate.tflops:.3g} TFLOP/s per GPU, i.e. {share}"
        f"\n  ({estimate.origin}); not counted: evaluation, loading, sampling"
    )


def _hours_left(left: Left, terms: Terms) -> str:
    rest = f", and {_unknown(left, terms)}" if left.unmeasured else ""
    shared = _number(left.hours / terms.devices, left)
    if terms.estimated:
        return f"left: {_number(left.hours, left)} GPU-hours, {shared} hours on {terms.devices} GPUs{rest}"
    return f"left: {_number(left.hours, left)} hours of one process, {shared} with {terms.devices}{rest}"


def _unknown(left: Left, terms: Terms) -> str:
    return f"{left.unmeasured} cell{'s' * (left.unmeasured > 1)} {terms.unknown}"
