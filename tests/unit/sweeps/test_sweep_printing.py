"""What others wrote reaches the terminal as text: no markup, nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from cells import NK, alter, take
from rich.console import Console

from sweeps.printing import say
from sweeps.progress import Watcher, progress_of
from sweeps.runner import Sweep, SweepOptions

NASTY = "[red]boom[/red]\x1b]0;title\x07\x9b2J"
SHOWN = "[red]boom[/red]]0;title2J"


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_are_printed_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=10)
    say(console, f"one {NASTY}\ntwo")
    assert printed(console) == f"one {SHOWN}\ntwo\n"


def test_the_lines_and_the_report_of_a_sweep(ledger, plan_values, add, tmp_path: Path) -> None:
    add(ledger, plan_values([2]))
    watcher, console = Watcher(ledger.view, [NK]), Console(file=io.StringIO())
    ledger.fail(take(ledger), NASTY, final=True)
    with progress_of(console, ledger.view.counts()) as progress:
        progress.update(watcher.look())
    assert printed(console) == f"[1/1] nk: Nk=2, seed 0: given up: {SHOWN}\n"
    console = Console(file=io.StringIO())
    assert Sweep(ledger, [NK], SweepOptions(tmp_path, wandb="disabled"), console).run() == 5
    assert f"trial 1, nk: Nk=2, seed 0: {SHOWN} (" in printed(console)
    assert not {"\x1b", "\x9b", "\x07"} & set(printed(console))


@pytest.mark.parametrize("label", ["[red]two[/red]", "[/]"])
def test_names_in_the_live_table(ledger, plan_values, add, label: str) -> None:
    add(ledger, plan_values([2]))
    alter(ledger, "UPDATE members SET axes = :axes", axes=json.dumps({"Nk": label}))
    take(ledger)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress_of(console, ledger.view.counts()) as progress:
        progress.update(Watcher(ledger.view, [NK]).look())
    assert f"nk: Nk={label}, seed 0" in printed(console)
