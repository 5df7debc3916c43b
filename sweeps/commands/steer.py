"""``syncvis sweep retry``, ``stop`` and ``resume``: what workers are told through the ledger, wherever they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from sweeps.commands.options import OUT, OnlyScale, Out, Storage, Studies, keys_of, open_ledger, trial_of
from sweeps.database import State
from sweeps.ledger import Ledger
from sweeps.printing import say
from sweeps.view import Keys, View
from syncvis.errors import ConfigError

LOOK_SECONDS = 0.5
_NAMES: dict[State, str] = {"gave_up": "given up"}

Wanted = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TRIAL|STUDY]...", help="Trial numbers, or studies such as nk-small.", show_default=False),
]


def retry(
    wanted: Wanted = None,
    every: Annotated[bool, typer.Option("--all", help="All given up trials of the ledger.")] = False,
    out: Out = OUT,
    storage: Storage = None,
) -> None:
    """Plan given up trials again, with all their tries; `run` or waiting workers then take them."""
    if every == bool(wanted):
        fix = "name trials or studies, or give --all alone"
        raise ConfigError("says not what to try again", file="command line", fix=fix)
    ledger, console = open_ledger(out, storage), Console()
    numbers = [int(word) for word in wanted or [] if word.isdecimal()]
    names = [word for word in wanted or [] if not word.isdecimal()]
    for number in numbers:
        _say_if_not_given_up(ledger.view, number, console)
    planned = ledger.retry(numbers=numbers) if numbers else 0
    if every or names:
        planned += ledger.retry(keys_of(ledger.view, names))
    say(console, f"{planned} {'trial' if planned == 1 else 'trials'} planned again")


def stop(
    studies: Studies = None,
    scale: OnlyScale = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until none of them runs.")] = True,
    out: Out = OUT,
    storage: Storage = None,
) -> None:
    """Ask all workers of studies, on every machine, to end after a checkpoint; what is left stays planned."""
    ledger, console = open_ledger(out, storage), Console()
    keys = keys_of(ledger.view, studies, scale)
    ledger.stop(keys)
    say(console, f"asked to stop: {_list(ledger.view, keys)}")
    if wait:
        _wait_until_none_runs(ledger, keys, console)
    say(console, "go on with `syncvis sweep run`, or `syncvis sweep resume` and workers")


def resume(studies: Studies = None, scale: OnlyScale = None, out: Out = OUT, storage: Storage = None) -> None:
    """Take back a `stop`: workers may take trials of these studies again."""
    ledger, console = open_ledger(out, storage), Console()
    keys = keys_of(ledger.view, studies, scale)
    ledger.stop(keys, stopping=False)
    say(console, f"may run again: {_list(ledger.view, keys)}")


def _say_if_not_given_up(view: View, number: int, console: Console) -> None:
    state: State = trial_of(view, number)["state"]
    if state != "gave_up":
        say(console, f"trial {number} is {_NAMES.get(state, state)}, not given up")


def _wait_until_none_runs(ledger: Ledger, keys: Keys, console: Console) -> None:
    """Show how many still run, each number once; cells of dead workers do not count. Ctrl-C ends the waiting alone."""
    shown = -1
    while running := _running(ledger, keys):
        if running != shown:
            say(console, f"{running} still {'runs' if running == 1 else 'run'}")
            shown = running
        time.sleep(LOOK_SECONDS)
    say(console, "none runs")


def _running(ledger: Ledger, keys: Keys) -> int:
    ledger.reap()
    return ledger.view.counts(keys)["running"]


def _list(view: View, keys: Keys) -> str:
    names: Sequence[str] = [key.name for key in (view.studies() if keys is None else keys)]
    return ", ".join(names) or "no study"
