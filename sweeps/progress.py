"""What a running sweep shows: a live table on a terminal, otherwise one line per finished cell."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sweeps.database import Row
from sweeps.experiment import Cell, describe

TAIL_BYTES = 16_384
States = Mapping[str, Row]
ResultsOf = Callable[[Sequence[str]], Mapping[str, Row]]


class Progress(Protocol):
    """Told the state of all cells again and again."""

    def update(self, states: States, results_of: ResultsOf) -> None: ...


@contextmanager
def progress_of(console: Console, cells: Sequence[Cell], states: States) -> Iterator[Progress]:
    """The display that fits the console, from the states at the start on."""
    if not console.is_terminal:
        yield PlainProgress(console, cells, states)
        return
    with Live(console=console, refresh_per_second=2) as live:
        yield LiveProgress(live, cells, states)


class PlainProgress:
    """One line per cell when it is done or given up."""

    def __init__(self, console: Console, cells: Sequence[Cell], states: States):
        self._console, self._names, self._total = console, cell_names(cells), len(states)
        self._ended = {cell_hash for cell_hash, row in states.items() if has_ended(row)}

    def update(self, states: States, results_of: ResultsOf) -> None:
        new = [h for h, row in states.items() if has_ended(row) and h not in self._ended]
        results = results_of(new) if new else {}
        for cell_hash in sorted(new, key=lambda h: states[h]["finished"]):
            self._ended.add(cell_hash)
            outcome = _outcome(states[cell_hash], results.get(cell_hash))
            line = f"[{len(self._ended)}/{self._total}] {self._names[cell_hash]}: {outcome}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """Done of total, the time left, and each running cell with its step and latest AP."""

    def __init__(self, live: Live, cells: Sequence[Cell], states: States):
        self._live, self._names = live, cell_names(cells)
        self._steps = {cell.hash: cell.config.train.steps for cell in cells}
        self._done_before, self._started = _number_done(states), time.monotonic()

    def update(self, states: States, results_of: ResultsOf) -> None:
        done = _number_done(states)
        counts = Counter(row["state"] for row in states.values())
        table = Table.grid(padding=(0, 2))
        for cell_hash, row in states.items():
            if row["state"] == "running":
                table.add_row(self._names[cell_hash], *self._latest(cell_hash, Path(row["run_dir"])))
        text = f"{done}/{len(states)} cells done, {counts['running']} running"
        if counts["gave_up"]:
            text += f", {counts['gave_up']} given up"
        summary = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=len(states), completed=done, width=40)
        summary.add_row(bar, text + self._time_left(done, counts))
        self._live.update(Group(summary, table))

    def _time_left(self, done: int, counts: Mapping[str, int]) -> str:
        since = done - self._done_before
        left = counts["planned"] + counts["running"]
        if not since or not left:
            return ""
        return f", about {format_seconds((time.monotonic() - self._started) / since * left)} left"

    def _latest(self, cell_hash: str, run_dir: Path) -> tuple[str, str]:
        rows = latest_rows(run_dir)
        step = next((row["step"] for row in reversed(rows)), 0)
        ap = next((row["eval/AP"] for row in reversed(rows) if "eval/AP" in row), None)
        return f"step {step}/{self._steps[cell_hash]}", "" if ap is None else f"AP {ap:.1f}"


def cell_names(cells: Sequence[Cell]) -> dict[str, str]:
    """Hash -> "momentum: momentum=0.2, seed 1", by the first experiment that has the cell."""
    names: dict[str, str] = {}
    for cell in cells:
        names.setdefault(cell.hash, f"{cell.experiment}: {describe(cell.axes)}, seed {cell.seed}")
    return names


def has_ended(row: Row) -> bool:
    return row["state"] in ("done", "gave_up")


def latest_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The last whole rows of metrics.jsonl; empty if there are none yet."""
    try:
        with (run_dir / "metrics.jsonl").open("rb") as file:
            start = max(0, file.seek(0, 2) - TAIL_BYTES)
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 : -1]
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _number_done(states: States) -> int:
    return sum(row["state"] == "done" for row in states.values())


def _outcome(row: Row, result: Row | None) -> str:
    if result is None:
        return f"given up: {row['error']}"
    return f"AP {result['metrics']['AP']:.2f} ({format_seconds(row['finished'] - row['started'])})"
