"""``syncvis sweep rerun``: does the ledger's record of a trial suffice to get its numbers again?"""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from sweeps.commands.options import OUT, Out, Plugins, Storage, Trial, open_ledger, trial_of
from sweeps.printing import say
from sweeps.rerun import changes_of_place, differences, load_record, new_folder, train_again
from sweeps.trial import RUN, check_run
from sweeps.worker import ONE_THREAD
from syncvis.references import allow, require

MAX_SHOWN = 10


def rerun(
    trial: Trial,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Out = OUT,
    storage: Storage = None,
    plugins: Plugins = None,
    run: Annotated[str, typer.Option(hidden=True)] = RUN,
) -> None:
    """Train a trial again from the ledger's record, and compare every metric and loss with it, bit for bit.

    Exit code 0: identical; 1: not. The first lines warn of whatever differs from the record: source, versions,
    hardware, data. The new run stays in OUT/reruns.
    """
    check_run(run)
    allow(plugins)
    os.environ.update(ONE_THREAD)  # as a worker does, and before torch is imported
    view, console = open_ledger(out, storage).view, Console()
    record = load_record(view, trial_of(view, trial))
    require(record.config.plugins)
    for line in changes_of_place(record, device):
        way = (
            f"; `syncvis sweep restore {trial} --to FOLDER` brings that one back" if line.startswith("source: ") else ""
        )
        say(console, f"warning: {line}{way}")
    folder = new_folder(out / "reruns", trial)
    say(console, f"trial {trial}: {record.config.train.steps} steps in {folder}")
    found = differences(record, *train_again(record, folder, run, device))
    if not found:
        videos = len(record.result.get("per_video") or {})
        say(console, f"identical: all metrics, AP of {videos} videos, {len(record.rows)} rows")
        return
    say(console, f"{len(found)} differences" + (f", the first {MAX_SHOWN}:" if len(found) > MAX_SHOWN else ":"))
    say(console, "\n".join(f"  {line}" for line in found[:MAX_SHOWN]))
    raise typer.Exit(1)
