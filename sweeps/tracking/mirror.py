"""Which cells have to be copied to W&B, and the copying."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.database import Row
from sweeps.experiment import describe
from sweeps.tracking.environment import Mode
from sweeps.tracking.notes import Notes
from sweeps.tracking.public import Public
from sweeps.tracking.run import Birth, WandbRun
from sweeps.view import Keys, View

MAX_OPEN = 32
"""Running cells that are followed at once; others are copied when they end."""
BATCH = 10
"""Ended cells that are copied before the running ones are looked at again."""
ROWS = 1000
OVERLAP_SECONDS = 120.0
"""How much later than its own time an end may show up in the ledger: a transaction waits for its lock."""


class Mirror:
    """Copies cells of a ledger to W&B.

    Args:
        folder: ``outputs/wandb``; offline runs are ``folder/offline-run-*``.
        keys: the studies to mirror; None for all.
        weights: add a reference to the weights of every done cell.
        alive: called whenever something was done, with whether a run was completed.
    """

    def __init__(
        self,
        view: View,
        folder: Path,
        mode: Mode,
        keys: Keys,
        weights: bool = False,
        alive: Callable[[bool], None] = lambda completed: None,
    ):
        import wandb

        self._wandb: Any = wandb
        self._view, self._folder, self._mode, self._keys, self._weights = view, folder, mode, keys, weights
        self._alive, self._public, self._notes = alive, Public(), Notes(folder)
        self._open: dict[str, WandbRun] = {}
        self._ended: deque[Row] = deque()
        self._queued: set[tuple[str, int]] = set()
        self._since, self.completed = 0.0, 0
        self._drop_incomplete()

    def step(self) -> bool:
        """Copy what is new in running cells, and some ended ones; whether there are more of these."""
        running = {row["cell_hash"]: row for row in self._view.cells(self._keys, ["running"])}
        for cell_hash, row in running.items():
            self._follow(cell_hash, row)
        self._look_for_ends()
        for _ in range(min(BATCH, len(self._ended))):
            self._end(self._ended.popleft())
        for cell_hash in self._open.keys() - running.keys():
            if self._view.cell_of(cell_hash)["state"] == "planned":  # given back; its next attempt begins anew
                self._open.pop(cell_hash).abandon()
        return bool(self._ended)

    def close(self) -> None:
        """End the runs whose cells have not ended; they are built anew next time."""
        for run in self._open.values():
            run.abandon()

    def _follow(self, cell_hash: str, row: Row) -> None:
        """Copy the rows of this attempt; what an earlier one wrote beyond them, this one will replace."""
        run = self._open.get(cell_hash)
        if run is not None and run.attempt != row["attempt"]:
            self._open.pop(cell_hash).abandon()
            run = None
        if run is None and len(self._open) < MAX_OPEN and not self._notes.is_complete(cell_hash, row["attempt"]):
            run = self._open[cell_hash] = self._begin(cell_hash)
        if run is not None:
            self._copy(run, cell_hash, run.attempt)

    def _look_for_ends(self) -> None:
        """Queue the ended cells that W&B lacks; those that failed before come last."""
        found = self._view.ended(self._keys, self._since)
        self._since = max([self._since, *(row["finished"] - OVERLAP_SECONDS for row in found)])
        fresh = [row for row in found if (row["cell_hash"], row["attempt"]) not in self._queued]
        lacking = [row for row in fresh if not self._notes.is_complete(row["cell_hash"], row["attempt"])]
        self._ended.extend(sorted(lacking, key=lambda row: self._notes.times_begun(row["cell_hash"])))
        self._queued = {(row["cell_hash"], row["attempt"]) for row in [*found, *self._ended]}

    def _end(self, ended: Row) -> None:
        cell_hash = ended["cell_hash"]
        row = self._view.cell_of(cell_hash)
        if row["attempt"] != ended["attempt"] or row["finished"] is None:  # it is tried again
            return
        run = self._open.pop(cell_hash, None)
        if run is not None and run.attempt != row["attempt"]:
            run.abandon()
            run = None
        run = run or self._begin(cell_hash)
        self._copy(run, cell_hash)
        folder = run.complete(row, self._view.results([cell_hash]).get(cell_hash), self._weights)
        self._notes.add("complete", cell_hash, folder=folder, uploaded=self._mode == "online")
        self.completed += 1
        self._alive(True)

    def _copy(self, run: WandbRun, cell_hash: str, attempt: int | None = None) -> None:
        while rows := self._view.metrics(cell_hash, run.line, attempt, ROWS):
            for line, row in rows.items():
                run.log(line, row)
            self._alive(False)

    def _begin(self, cell_hash: str) -> WandbRun:
        row = self._view.cell_of(cell_hash)
        members = self._view.memberships(cell_hash)
        axes = members[0][1] if members else {}
        config = {**self._public.tree(json.loads(row["config"])), "cell_hash": cell_hash, "trial": row["number"]}
        birth = Birth(
            self._folder,
            self._mode,
            run_id(row),
            row,
            self._public.text(f"{describe(axes)}, seed={row['seed']}"),
            [key.name for key, _ in members],
            config,
        )
        self._remove(birth.run)
        self._notes.add("begun", cell_hash, attempt=row["attempt"], run=birth.run)
        self._alive(False)
        return WandbRun(self._wandb, birth, self._public)

    def _drop_incomplete(self) -> None:
        """Remove what is no complete run: left by a mirror that was killed, or of an attempt that did not end."""
        complete = {note.folder for note in self._notes.by_cell.values() if note.complete}
        for run in self._folder.glob("*run-*-*"):
            if run.is_dir() and run.name not in complete:
                shutil.rmtree(run, ignore_errors=True)

    def _remove(self, run: str) -> None:
        for folder in self._folder.glob(f"*run-*-{run}"):
            shutil.rmtree(folder, ignore_errors=True)


def run_id(row: Row) -> str:
    """The W&B id of a cell of one ledger: the same whenever its run is built anew, another in another ledger."""
    return hashlib.sha256(f"{row['cell_hash']} {row['created']!r}".encode()).hexdigest()[:12]
