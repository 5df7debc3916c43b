"""``syncvis sweep status``: how the studies of a ledger stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from sweeps.commands.options import (
    OUT,
    OnlyScale,
    Out,
    Storage,
    Studies,
    host_and_process,
    keys_of,
    open_ledger,
)
from sweeps.overview import MAX_RUNNING, Overview, Running, log_of, overview, stamp
from sweeps.printing import plain
from sweeps.progress import format_seconds
from syncvis.errors import StorageError

WATCH_SECONDS = 2.0
_COLUMNS = ("planned", "running", "done", "pruned", "gave_up")


def status(
    studies: Studies = None,
    scale: OnlyScale = None,
    out: Out = OUT,
    storage: Storage = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show the states of all cells, what runs, how fast, and what failed; from the ledger alone."""
    ledger, console = open_ledger(out, storage), Console()
    keys = keys_of(ledger.view, studies, scale)

    def look() -> RenderableType:
        ledger.reap()
        return render(overview(ledger.view, keys))

    if watch:
        _watch(look, console)
    else:
        console.print(look())


def render(found: Overview) -> RenderableType:
    """All of it as tables and lines; a part that has nothing to say is left out."""
    parts: list[RenderableType] = [_states(found)]
    if found.running:
        parts.append(_running(found))
    parts += [plain(line) for line in _lines(found)]
    return Group(*parts)


def _watch(look: Callable[[], RenderableType], console: Console) -> None:
    """Refresh until Ctrl-C; a database that is away is waited for."""
    try:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                live.update(Group(_or_error(look), plain(f"{stamp()}, Ctrl-C ends")), refresh=True)
                time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return


def _or_error(look: Callable[[], RenderableType]) -> RenderableType:
    try:
        return look()
    except StorageError as error:
        return plain(f"error: {error}")


def _states(found: Overview) -> Table:
    table = Table("study", *(name.replace("gave_up", "given up") for name in _COLUMNS))
    for key, counts in found.studies.items():
        name = key.name + " (asked to stop)" * (key in found.stopping)
        table.add_row(plain(name), *(str(counts[state]) for state in _COLUMNS))  # type: ignore[index]
    if len(found.studies) > 1:
        table.add_section()
        table.add_row("all, each cell once", *(str(found.total[state]) for state in _COLUMNS))  # type: ignore[index]
    return table


def _running(found: Overview) -> Table:
    more = found.total["running"] - len(found.running)
    caption = f"and {more} more (the first {MAX_RUNNING} are shown)" if more > 0 else None
    table = Table("trial", "running", "step", "AP", "attempt", "worker", "lease", caption=caption)
    for trial in found.running:
        table.add_row(*map(plain, _cells_of(trial)))
    return table


def _cells_of(trial: Running) -> Iterator[str]:
    yield str(trial.number)
    yield trial.name
    yield f"{trial.step}/{trial.steps}"
    yield "" if trial.ap is None else f"{trial.ap:.2f}"
    yield str(trial.attempt)
    yield host_and_process(trial.worker)
    yield f"{trial.lease_left:.0f} s left"


def _lines(found: Overview) -> Iterator[str]:
    if found.cells_per_hour:
        left = f", about {format_seconds(found.seconds_left)} left" if found.seconds_left else ""
        yield f"{found.cells_per_hour:.1f} cells per hour{left}"
    elif found.total["planned"] and not found.running:
        yield f"{found.total['planned']} cells are planned, and nothing runs"
    for row in found.troubles:
        state = "given up" if row["state"] == "gave_up" else f"{row['state']} again"
        name = found.names.get(row["cell_hash"], row["cell_hash"])
        yield f"trial {row['number']}, {name}, {state}: {row['error']} ({log_of(row)})"
    if found.all_troubles > len(found.troubles):
        yield f"and {found.all_troubles - len(found.troubles)} more (see `export --what attempts`)"
