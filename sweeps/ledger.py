"""The ledger: which cells there are, who works on them, and exactly one result for each.

A cell is claimed for a limited time (a lease on the database's clock) under an attempt number that only
grows. Every later write names that number, so a worker that was thought dead and comes back is refused
(fenced). A result and the state "done" are written in one transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import sqlalchemy as sa

from sweeps.database import Database, Row, State, cells, members, results
from sweeps.experiment import Cell
from sweeps.failpoints import failpoint
from sweeps.identity import died_here

MAX_FAILURES = 3
# Higher than for errors: a worker may be killed through no fault of its cell, and the next one resumes the cell.
MAX_DEATHS = 10
_FREE: Row = {"worker": None, "lease_until": None}


class Fenced(Exception):
    """This attempt no longer owns its cell: somebody else took it over, or has finished it."""


@dataclass(frozen=True)
class Claim:
    """The right to run one cell, valid while its lease is renewed.

    Attributes:
        config: canonical JSON of the run config.
        attempt: the fencing token.
    """

    cell_hash: str
    config: str
    run_dir: Path
    worker: str
    attempt: int
    lease_seconds: float


class Ledger:
    """The cells of one output tree.

    Args:
        place: Path of a SQLite file (made if missing), or a database URL.

    Raises:
        StorageError: From every method, when the database cannot be used; the text names it.
    """

    def __init__(self, place: str | Path):
        self._database = Database(place)

    def add(self, planned: Sequence[Cell], run_root: str | Path) -> None:
        """Make these cells the plan of their experiments; a cell that is known keeps its state and result."""
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            known = set(connection.scalars(sa.select(cells.c.cell_hash)))
            fresh = {cell.hash: cell for cell in planned if cell.hash not in known}
            if fresh:
                connection.execute(cells.insert(), [_cell_row(cell, now) for cell in fresh.values()])
            for experiment, scale in {(cell.experiment, cell.scale) for cell in planned}:
                connection.execute(members.delete().where(_is_plan(experiment, scale)))
            for cell in planned:
                connection.execute(members.insert().values(**_member_row(cell)))
                run_dir = str(Path(run_root) / cell.hash)
                connection.execute(_cell(cell.hash).values(run_dir=run_dir))

    def claim(self, worker: str, lease_seconds: float, among: Sequence[str] | None = None) -> Claim | None:
        """Take the planned cell that stands first, or None; cells of dead workers are freed before that."""
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            self._reap(connection, now)
            row = connection.execute(_first_planned(among)).mappings().first()
            if row is None:
                return None
            attempt, cell_hash = row["attempt"] + 1, row["cell_hash"]
            lease = {"worker": worker, "lease_until": now + lease_seconds, "attempt": attempt}
            connection.execute(_cell(cell_hash).values(state="running", started=now, finished=None, **lease))
        failpoint("after_claim")
        return Claim(cell_hash, row["config"], Path(row["run_dir"]), worker, attempt, lease_seconds)

    def beat(self, claim: Claim) -> bool:
        """Renew the lease; False when the cell is no longer ours."""
        with self._database.transaction() as connection:
            lease_until = self._database.now(connection) + claim.lease_seconds
            return connection.execute(_owned(claim).values(lease_until=lease_until)).rowcount == 1

    def finish(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """Store the result and mark the cell done, in one transaction; repeating the call changes nothing.

        Raises:
            Fenced: The cell is no longer ours; nothing was written.
        """
        failpoint("before_finish")
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            query = sa.select(results.c.attempt).where(results.c.cell_hash == claim.cell_hash)
            if connection.scalar(query) == claim.attempt:
                return
            done = _owned(claim).values(state="done", error=None, finished=now, **_FREE)
            if connection.execute(done).rowcount != 1:
                raise Fenced(claim.cell_hash)
            text = json.dumps(dict(result), sort_keys=True)
            row = {"cell_hash": claim.cell_hash, "attempt": claim.attempt, "result": text, "finished": now}
            connection.execute(results.insert().values(**row))
            failpoint("in_finish_tx")
        self._database.mark_filled()
        failpoint("after_finish")

    def release(self, claim: Claim) -> None:
        """Give the cell back unfinished, which is no failure. Does nothing if it is no longer ours."""
        with self._database.transaction() as connection:
            connection.execute(_owned(claim).values(state="planned", **_FREE))

    def fail(self, claim: Claim, error: str, final: bool = False) -> None:
        """Count a failure: planned again, or given up if ``final`` or after ``MAX_FAILURES`` of them."""
        with self._database.transaction() as connection:
            failures = connection.scalar(sa.select(cells.c.failures).where(_is_ours(claim)))
            if failures is not None:
                final = final or failures + 1 >= MAX_FAILURES
                failed = _failed(final, error, self._database.now(connection))
                connection.execute(_owned(claim).values(failures=failures + 1, **failed))

    def retry(self, among: Sequence[str]) -> int:
        """Plan again which of these cells were given up; returns how many there were."""
        given_up = sa.and_(cells.c.state == "gave_up", cells.c.cell_hash.in_(among))
        with self._database.transaction() as connection:
            again = cells.update().where(given_up).values(state="planned", failures=0, deaths=0, finished=None)
            return connection.execute(again).rowcount

    def reap(self) -> None:
        """Free the cells whose lease has ended, or whose worker died on this machine."""
        with self._database.transaction() as connection:
            self._reap(connection, self._database.now(connection))

    def states(self, among: Sequence[str] | None = None) -> dict[str, Row]:
        """Hash -> all columns but the config, of these cells or of all."""
        return {row["cell_hash"]: row for row in self._database.read(_among(sa.select(*_BRIEF), cells, among))}

    def rows(self) -> list[Row]:
        """One row per (experiment, scale, cell), in plan order: ``axes`` (a dict) and the cell's columns."""
        cell = [column for column in _BRIEF if column.name != "cell_hash"]
        query = sa.select(members, *cell).join_from(members, cells)
        rows = self._database.read(query.order_by(members.c.experiment, members.c.scale, members.c.position))
        return [{**row, "axes": json.loads(row["axes"])} for row in rows]

    def status(self, experiment: str, scale: str) -> dict[State, int]:
        """How many cells of a plan are in each state."""
        query = sa.select(cells.c.state).join_from(cells, members).where(_is_plan(experiment, scale))
        counts = Counter(row["state"] for row in self._database.read(query))
        return {state: counts[state] for state in get_args(State)}

    def results(self, among: Sequence[str] | None = None) -> dict[str, Row]:
        """Hash -> result (``RunResult.to_json()``) of the done cells."""
        query = _among(sa.select(results.c.cell_hash, results.c.result), results, among)
        return {row["cell_hash"]: json.loads(row["result"]) for row in self._database.read(query)}

    def _reap(self, connection: sa.Connection, now: float) -> None:
        running = sa.select(*_BRIEF).where(cells.c.state == "running").with_for_update()
        for row in connection.execute(running).mappings().all():
            if row["lease_until"] < now or died_here(row["worker"]):
                deaths = row["deaths"] + 1
                failed = _failed(deaths >= MAX_DEATHS, f"worker {row['worker']} died or hung", now)
                connection.execute(_cell(row["cell_hash"]).values(deaths=deaths, **failed))


def _failed(final: bool, error: str, now: float) -> Row:
    state = {"state": "gave_up", "finished": now} if final else {"state": "planned"}
    return {**state, "error": error, **_FREE}


_BRIEF = [column for column in cells.c if column.name != "config"]


def _cell(cell_hash: str) -> sa.Update:
    return cells.update().where(cells.c.cell_hash == cell_hash)


def _is_ours(claim: Claim) -> sa.ColumnElement[bool]:
    attempt = sa.and_(cells.c.cell_hash == claim.cell_hash, cells.c.attempt == claim.attempt)
    return sa.and_(attempt, cells.c.state == "running")


def _owned(claim: Claim) -> sa.Update:
    return cells.update().where(_is_ours(claim))


def _is_plan(experiment: str, scale: str) -> sa.ColumnElement[bool]:
    return sa.and_(members.c.experiment == experiment, members.c.scale == scale)


def _among(query: sa.Select[Any], table: sa.Table, hashes: Sequence[str] | None) -> sa.Select[Any]:
    return query if hashes is None else query.where(table.c.cell_hash.in_(hashes))


def _first_planned(among: Sequence[str] | None) -> sa.Select[Any]:
    position = sa.select(sa.func.min(members.c.position)).where(members.c.cell_hash == cells.c.cell_hash)
    query = _among(sa.select(cells).where(cells.c.state == "planned"), cells, among)
    return query.order_by(position.scalar_subquery(), cells.c.created, cells.c.cell_hash).limit(1).with_for_update()


def _cell_row(cell: Cell, now: float) -> Row:
    identity = {"cell_hash": cell.hash, "variant_hash": cell.config.variant_hash, "seed": cell.seed}
    start = {"state": "planned", "attempt": 0, "failures": 0, "deaths": 0, "run_dir": "", "created": now}
    return {**identity, **start, "config": cell.config.canonical()}


def _member_row(cell: Cell) -> Row:
    place = {"experiment": cell.experiment, "scale": cell.scale, "position": cell.position}
    return {**place, "cell_hash": cell.hash, "axes": json.dumps(cell.axes)}
