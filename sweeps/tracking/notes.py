"""What is mirrored and uploaded so far: ``mirror.jsonl`` in the W&B folder, one line per event.

Only appended to, in single writes; a line that a kill or a full disk tore is skipped. Without the file, everything
is mirrored anew from the ledger.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sweeps.view import Keys, View
from syncvis.errors import StorageError

NAME = "mirror.jsonl"
LOCK = "mirror.lock"
Event = Literal["begun", "complete", "synced", "dropped"]


@dataclass(frozen=True)
class Note:
    """How far one attempt of a cell is in W&B.

    Attributes:
        run: the W&B run's id.
        folder: of the run's files, within the W&B folder; empty until it is complete.
        begun: how often it was begun.
        uploaded: made online, or synced.
    """

    attempt: int
    run: str
    folder: str = ""
    begun: int = 0
    complete: bool = False
    uploaded: bool = False


class Notes:
    """The notes of a W&B folder, by cell hash."""

    def __init__(self, folder: Path):
        self._path = folder / NAME
        self.by_cell: dict[str, Note] = {}
        for line in _lines(self._path):
            self._take(line)

    def is_complete(self, cell_hash: str, attempt: int) -> bool:
        """Whether W&B has all of this attempt; a cell that was tried again is another attempt."""
        note = self.by_cell.get(cell_hash)
        return note is not None and note.complete and note.attempt == attempt

    def times_begun(self, cell_hash: str) -> int:
        note = self.by_cell.get(cell_hash)
        return note.begun if note else 0

    def to_upload(self) -> dict[str, Note]:
        """Complete runs that the server does not have, by cell hash."""
        return {name: note for name, note in self.by_cell.items() if note.complete and not note.uploaded}

    def add(self, event: Event, cell_hash: str, **facts: Any) -> None:
        """Write an event; raises StorageError where that cannot be done."""
        line = {"event": event, "cell": cell_hash, **facts}
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                data = f"\n{json.dumps(line)}\n".encode()  # the blank line ends one that was torn before
                whole = os.write(file, data) == len(data)
            finally:
                os.close(file)
        except OSError as error:
            raise StorageError(f"cannot be written ({error.strerror})", file=self._path) from None
        if not whole:
            raise StorageError("cannot be written (the disk is full)", file=self._path)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        old = self.by_cell.get(line["cell"])
        if line["event"] == "begun":
            begun = old.begun + 1 if old and old.attempt == line["attempt"] else 1
            self.by_cell[line["cell"]] = Note(line["attempt"], line["run"], begun=begun)
        elif old and line["event"] == "complete":
            self.by_cell[line["cell"]] = replace(
                old, folder=line["folder"], complete=True, uploaded=line["uploaded"], begun=0
            )
        elif line["event"] == "dropped":
            self.by_cell.pop(line["cell"], None)
        elif old and line["event"] == "synced" and line["run"] == old.run:
            self.by_cell[line["cell"]] = replace(old, uploaded=True)


def number_waiting(view: View, folder: Path, keys: Keys) -> int:
    """How many ended cells W&B lacks."""
    notes = Notes(folder)
    return sum(not notes.is_complete(row["cell_hash"], row["attempt"]) for row in view.ended(keys))


@contextmanager
def only_mirror(folder: Path) -> Iterator[bool]:
    """Whether nobody else mirrors to the folder, and nobody does until the end of the body."""
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        texts = path.read_bytes().splitlines()
    except OSError:
        return
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"event", "cell"} <= line.keys():
            yield line
