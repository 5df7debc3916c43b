"""``syncvis sweep plan``: how much there is to run, what it costs, and what stands in its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

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
from sweeps.commands.plan_text import Terms, lines, notes, spent_line, table
from sweeps.definition import Study
from sweeps.estimate import PUBLISHED
from sweeps.forecast import Forecast, plan_of
from sweeps.plugins import missing_flags
from sweeps.printing import say
from sweeps.readiness import lacking, left, look_at
from sweeps.runner import SweepOptions
from sweeps.view import View
from syncvis import gpus
from syncvis.references import allow

NODE = 8
"""GPUs that hours at scale paper are shared out to: those of one node, for which the recipes are written."""
PRICE = 2.0
"""Of a GPU-hour at scale paper where none is given; no provider's."""

Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help=f"Share the hours out to so many; default: as `run` would here; of scale paper {NODE} GPUs."
    ),
]
Price = Annotated[
    float | None,
    typer.Option(min=0, metavar="PER_HOUR", help=f"Price of an hour of a GPU or process; of scale paper {PRICE:.2f}."),
]
Tflops = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="TFLOP/s that a GPU sustains, for cells of scale paper of which nothing is measured; default: "
        f"that of measured cells, else {PUBLISHED}, as published.",
        show_default=False,
    ),
]


def plan(
    experiments: Experiments = None,
    scale: ScaleOption = "small",
    on: On = None,
    workers: Workers = None,
    price: Price = None,
    tflops: Tflops = None,
    sampler: Sampler = None,
    trials: Trials = None,
    out: Out = OUT,
    storage: Storage = None,
    plugins: Plugins = None,
) -> None:
    """Show how many cells each experiment has, how many are left, and the hours; starts nothing."""
    allow(plugins)
    studies = studies_of(experiments, scale, on, sampler, trials)
    ledger, console, paper = find_ledger(out, storage), Console(), scale == "paper"
    view = ledger.view if ledger else None
    plans = [plan_of(study, view) for study in studies]
    forecast = Forecast(view, plans, paper, tflops)
    price = PRICE if paper and price is None else price
    terms = Terms(paper, price, workers or (NODE if paper else SweepOptions().size))
    found, left = table(plans, forecast, terms, console)
    console.print(found)
    for line in [*notes(studies), *lines(left, forecast.estimate, terms)]:
        say(console, line)
    if view is not None:
        say(console, spent_line(view, [plan.key for plan in plans], terms))
    _refuse_unready(studies, view, console, paper)


def _refuse_unready(studies: Sequence[Study], view: View | None, console: Console, paper: bool) -> None:
    """What is missing for the cells that are left is listed; what is wrong is an error, as of ``run``."""
    configs = left(studies, view)
    if not configs:
        return
    if flags := missing_flags(configs):
        say(console, f"note: cells name code from outside the workbench; `run` needs {flags}")
    found = look_at(configs)
    for note in found.notes:
        say(console, f"note: {note}")
    for line in lacking(found, (NODE, gpus.count()) if paper else None):
        say(console, line)
    found.faulty.refuse()
