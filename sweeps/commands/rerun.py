"""``syncvis sweep rerun``: does the ledger's record of a trial suffice to get its numbers again?"""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from sweeps.commands.options import OUT, Out, Plugins, Storage, Trial, open_ledger, trial_of
from sweeps.printing import say
from sweeps.rerun import changes_of_place, differences, execution_here, load_record, new_folder, train_again
from sweeps.trial import RUN, check_run
from syncvis.references import allow, require

MAX_SHOWN = 10


def rerun(
    trial: Trial,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; default: as recorded, if this machine can.", show_default=False)
    ] = None,
    out: Out = OUT,
    storage: Storage = None,
    plugins: Plugins = None,
    run: Annotated[str, typer.Option(hidden=True)] = RUN,
) -> None:
    """Train a trial again from the ledger's record, and compare every metric and loss with it, bit for bit.

    It is carried out as it was: threads, loader processes, activations, determinism, processes that train together.
    Exit code 0: identical; 1: not. The first lines warn of whatever differs from the record: source, versions,
    hardware, data. The new run stays in OUT/reruns.
    """
    check_run(run)
    allow(plugins)
    view, console = open_ledger(out, storage).view, Console()
    record = load_record(view, trial_of(view, trial))
    require(record.config.plugins)
    execution, processes = execution_here(record, device)
    os.environ.update(execution.environment())  # as a worker does, and before torch is imported
    for line in changes_of_place(record, execution, processes):
        way = (
            f"; `syncvis sweep restore {trial} --to FOLDER` brings that one back" if line.startswith("source: ") else ""
        )
        say(console, f"warning: {line}{way}")
    folder = new_folder(out / "reruns", trial)
    say(console, f"trial {trial}: {record.config.train.steps} steps in {folder}")
    found = differences(record, *train_again(record, folder, run, execution, processes))
    if not found:
        videos = len(record.result.get("per_video") or {})
        say(console, f"identical: all metrics, AP of {videos} videos, {len(record.rows)} rows")
        return
    say(console, f"{len(found)} differences" + (f", the first {MAX_SHOWN}:" if len(found) > MAX_SHOWN else ":"))
    say(console, "\n".join(f"  {line}" for line in found[:MAX_SHOWN]))
    raise typer.Exit(1)
