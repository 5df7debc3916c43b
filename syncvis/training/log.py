"""The rows of a run, on disk and told to whoever listens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from syncvis.errors import StorageError
from syncvis.files import append_line, finite, write_text
from syncvis.training.step import Row

LoggedRow = dict[str, float | None]
"""A row as the file holds it: null for a value that is not finite, since JSON has no NaN."""

Listener = Callable[[int, LoggedRow], None]
"""Told the number of a row's line in the file, from 0, and the row. A line may be told again: the last word counts."""


class MetricsLog:
    """metrics.jsonl: one JSON object a line, each written whole.

    Args:
        path: of the file.
        lines: how many the checkpoint knows; what lies beyond is dropped, whole or torn.
        listener: told the lines that are kept, then every new one once it is in the file.

    Raises:
        StorageError: A line that the checkpoint counts is missing or damaged.
    """

    def __init__(self, path: Path, lines: int, listener: Listener) -> None:
        self.path, self.lines, self._listener = path, lines, listener
        kept = read_rows(path)[:lines]
        if len(kept) < lines:
            raise StorageError(
                f"holds {len(kept)} whole rows, and the checkpoint beside it counts {lines}",
                file=path,
                fix="restore the file, or delete the folder to start this run again",
            )
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        tell(kept, listener)

    def write(self, row: Row) -> None:
        stored: LoggedRow = finite(row)
        append_line(self.path, json.dumps(stored, allow_nan=False))
        self.lines += 1
        self._listener(self.lines - 1, stored)

    def flush(self) -> None:
        """Bring all rows to the disk: a checkpoint must not know more of them than the file."""
        with self.path.open("rb+") as stream:
            os.fsync(stream.fileno())


def read_rows(path: Path) -> list[LoggedRow]:
    """The rows of a log up to the first line that is torn; none if there is no file."""
    rows: list[LoggedRow] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        row = _row(line)
        if row is None:
            break
        rows.append(row)
    return rows


def tell(rows: list[LoggedRow], listener: Listener) -> None:
    """Tell all rows of a file."""
    for line, row in enumerate(rows):
        listener(line, row)


def _row(line: bytes) -> LoggedRow | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return finite(row) if isinstance(row, dict) else None
