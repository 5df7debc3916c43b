"""The progress bar of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from syncvis.training.log import Listener, LoggedRow


@contextmanager
def progress_bar(steps: int) -> Iterator[Listener]:
    """Shown inside; the listener moves it."""
    columns = [
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    ]
    with Progress(*columns) as bar:
        task = bar.add_task("", total=steps)
        shown: LoggedRow = {}

        def listener(_: int, row: LoggedRow) -> None:
            shown.update({k: v for k, v in row.items() if k in ("loss", "eval/AP", "eval/AP50")})
            text = "  ".join(f"{name} {value:.2f}" for name, value in shown.items() if value is not None)
            bar.update(task, completed=int(row["step"] or 0), description=text)

        yield listener
