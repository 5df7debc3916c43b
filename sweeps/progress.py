"""What a running sweep shows: a live table on a terminal, otherwise one line per ended cell."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sweeps.database import Row, State
from sweeps.experiment import describe
from sweeps.printing import plain, say
from sweeps.view import ENDED, OPEN, Keys, View

Counts = Mapping[State, int]


@dataclass(frozen=True)
class Look:
    """What one look at the ledger brought.

    Attributes:
        names: hash -> "momentum: momentum=0.2, seed 1" of the cells below.
        latest: hash of a running cell -> step and the last AP, as far as known.
        ended: cells that ended since the last look, in the order of their ends.
    """

    counts: Counts
    running: Sequence[Row]
    ended: Sequence[Row]
    names: Mapping[str, str]
    latest: Mapping[str, tuple[int, float | None]]
    results: Mapping[str, Row]

    @property
    def number_ended(self) -> int:
        return sum(self.counts[state] for state in ENDED)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Watcher:
    """Looks at some studies again and again, and remembers what it has seen; looks stay cheap for large studies."""

    def __init__(self, view: View, keys: Keys):
        self._view, self._keys = view, keys
        before = view.ended(keys)
        self._seen = {row["number"] for row in before}
        self._since = max((row["finished"] for row in before), default=0.0)

    def look(self) -> Look:
        running = self._view.cells(self._keys, ["running"])
        ended = [row for row in self._view.ended(self._keys, self._since) if row["number"] not in self._seen]
        self._seen |= {row["number"] for row in ended}
        self._since = max([self._since, *(row["finished"] for row in ended)])
        return Look(
            counts=self._view.counts(self._keys),
            running=running,
            ended=ended,
            names=names_of(self._view, [*running, *ended]),
            latest={row["cell_hash"]: self._view.latest(row["cell_hash"]) for row in running},
            results=self._view.results([row["cell_hash"] for row in ended if row["state"] == "done"]),
        )


class Progress(Protocol):
    """Told every look."""

    def update(self, look: Look) -> None: ...


@contextmanager
def progress_of(console: Console, before: Counts) -> Iterator[Progress]:
    """The display that fits the console, from the counts at the start on."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    with Live(console=console, refresh_per_second=2) as live:
        yield LiveProgress(live, before)


class PlainProgress:
    """One line per cell when it is done, pruned or given up."""

    def __init__(self, console: Console):
        self._console = console

    def update(self, look: Look) -> None:
        first = look.number_ended - len(look.ended) + 1
        for number, row in enumerate(look.ended, first):
            outcome = _outcome(row, look.results.get(row["cell_hash"]))
            say(self._console, f"[{number}/{look.total}] {look.names[row['cell_hash']]}: {outcome}")


class LiveProgress:
    """Ended of total, the time left, and each running cell with its step and latest AP."""

    def __init__(self, live: Live, before: Counts):
        self._live, self._before, self._started = live, before, time.monotonic()

    def update(self, look: Look) -> None:
        table = Table.grid(padding=(0, 2))
        for row in look.running:
            step, ap = look.latest[row["cell_hash"]]
            table.add_row(plain(look.names[row["cell_hash"]]), f"step {step}", "" if ap is None else f"AP {ap:.1f}")
        words = [f"{look.number_ended}/{look.total} cells ended", f"{look.counts['running']} running"]
        words += [f"{look.counts[state]} {label}" for state, label in _RARE.items() if look.counts[state]]
        summary = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=look.total, completed=look.number_ended, width=40)
        summary.add_row(bar, ", ".join(words) + self._time_left(look))
        self._live.update(Group(summary, table))

    def _time_left(self, look: Look) -> str:
        since = look.number_ended - sum(self._before[state] for state in ENDED)
        left = sum(look.counts[state] for state in OPEN)
        if since <= 0 or not left:
            return ""
        return f", about {format_seconds((time.monotonic() - self._started) / since * left)} left"


_RARE: dict[State, str] = {"pruned": "pruned", "gave_up": "given up"}


def names_of(view: View, rows: Sequence[Row]) -> dict[str, str]:
    """Hash -> "momentum: momentum=0.2, seed 1", by the first experiment that has the cell."""
    axes = view.axes([row["cell_hash"] for row in rows])
    return {
        row["cell_hash"]: f"{axes[row['cell_hash']][0]}: {describe(axes[row['cell_hash']][1])}, seed {row['seed']}"
        for row in rows
        if row["cell_hash"] in axes
    }


def format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _outcome(row: Row, result: Row | None) -> str:
    if result is None:
        return f"{'given up' if row['state'] == 'gave_up' else row['state']}: {row['error']}"
    return f"AP {result['metrics']['AP']:.2f} ({format_seconds(row['finished'] - row['started'])})"
