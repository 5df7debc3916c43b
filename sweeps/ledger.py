"""The ledger: which cells there are, who works on them, and exactly one result for each.

A cell is claimed for a limited time (a lease on the database's clock) under an attempt number that only
grows. Every later write names that number, so a worker that was thought dead and comes back is refused
(fenced). A result and the state "done" are written in one transaction. Every method may be repeated after
a lost connection: the second time it changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sweeps.database import (
    PATIENCE_SECONDS,
    Database,
    Row,
    attempt_sources,
    attempts,
    cells,
    executions,
    members,
    metrics,
    results,
    sources,
    studies,
)
from sweeps.experiment import Cell
from sweeps.failpoints import failpoint
from sweeps.identity import died_here, kill_here, ran_elsewhere
from sweeps.leases import LeasesElsewhere
from sweeps.view import Keys, StudyKey, View, among, exists_for_each_cell, is_one_of

MAX_FAILURES = 3
# Higher than for errors: a process may be killed through no fault of its cell, and the next one resumes the cell.
MAX_DEATHS = 10
# Higher again: machines go away, and the cell that stood first was on them.
MAX_LOSSES = 100
_FREE: Row = {"worker": None, "lease_until": None}
Outcome = Literal["done", "pruned", "released", "failed", "died"]


class Fenced(Exception):
    """This attempt no longer owns its cell: somebody else took it over, or has finished it."""


@dataclass(frozen=True)
class Attempt:
    """One of the times that a cell was handed out.

    Attributes:
        attempt: the fencing token.
    """

    cell_hash: str
    attempt: int


@dataclass(frozen=True)
class Claim(Attempt):
    """The right to run one cell, valid while its lease is renewed.

    Attributes:
        number: the trial number.
        config: canonical JSON of the run config.
    """

    number: int
    config: str
    run_dir: Path
    lease_seconds: float


class Ledger:
    """The cells of one output tree; ``view`` asks about them.

    Args:
        place: Path of a SQLite file (made if missing), or a PostgreSQL URL.
        patience: Seconds to wait for a database that is away.
        is_open: Skip the checks of the first opening; for processes that are told the place by one that did them.

    Raises:
        StorageError: From every method, when the database cannot be used; the text names it.
    """

    def __init__(self, place: str | Path, patience: float = PATIENCE_SECONDS, is_open: bool = False):
        self._database = Database(place, patience, is_open)
        self.view = View(self._database)
        self._leases = LeasesElsewhere()

    def add(
        self, key: StudyKey, definition: Mapping[str, Any], planned: Sequence[Cell] | None, run_root: str | Path
    ) -> None:
        """Make these cells the study's members; a cell that is known keeps its number, state and result.

        Args:
            planned: All its cells; None keeps those it has, as a search adds them one by one.
        """

        def work(connection: sa.Connection) -> None:
            self._database.alone(connection)
            now = self._database.now(connection)
            if planned is not None:
                connection.execute(members.delete().where(is_one_of(members, [key])))
            found = connection.execute(sa.select(studies).where(is_one_of(studies, [key]))).mappings().first()
            size = len(planned) if planned is not None else found["size"] if found else 0
            connection.execute(studies.delete().where(is_one_of(studies, [key])))
            row: Row = {"experiment": key.experiment, "scale": key.scale, "definition": json.dumps(dict(definition))}
            row |= {"size": size, "run_root": str(run_root), "exhausted": False, "stopping": False}
            connection.execute(studies.insert().values(**row, created=found["created"] if found else now))
            _add_cells(connection, key, planned or [], str(run_root), now)
            self._database.gather_statistics(connection)

        self._database.run(work)

    def append(self, key: StudyKey, cell: Cell) -> bool:
        """Add one cell at its position; False, and nothing added, if another cell stands there by now."""

        def work(connection: sa.Connection) -> bool:
            self._database.alone(connection)
            grown = studies.update().where(is_one_of(studies, [key]), studies.c.size == cell.position)
            if connection.execute(grown.values(size=cell.position + 1)).rowcount == 0:
                return False
            run_root = connection.scalar(sa.select(studies.c.run_root).where(is_one_of(studies, [key])))
            _add_cells(connection, key, [cell], run_root or "", self._database.now(connection))
            return True

        return self._database.run(work)

    def exhaust(self, key: StudyKey, size: int) -> None:
        """Note that a search has no other cell to add to the ``size`` that it has; unless it has others by now."""
        known = sa.and_(is_one_of(studies, [key]), studies.c.size == size)
        self._database.run(lambda c: c.execute(studies.update().where(known).values(exhausted=True)))

    def claim(self, worker: str, lease_seconds: float, keys: Keys = None) -> Claim | None:
        """Take the planned cell with the lowest number, or None; cells of dead workers are freed before that.

        What this worker claimed before without hearing of it (the answer was lost) is given back, too.
        """

        def work(connection: sa.Connection) -> Claim | None:
            now = self._database.now(connection)
            held = sa.select(cells.c.cell_hash, cells.c.attempt)
            for unheard in connection.execute(held.where(cells.c.state == "running", cells.c.worker == worker)).all():
                _end(connection, Attempt(*unheard), "released", now, state="planned")
            row = connection.execute(_first_planned(keys)).mappings().first()
            if row is None:
                return None
            attempt = row["attempt"] + 1
            lease = {"worker": worker, "lease_until": self._database.lease_clock(connection) + lease_seconds}
            taken = {"state": "running", "attempt": attempt, "started": now, "finished": None, **lease}
            connection.execute(_cell(row["cell_hash"]).values(**taken))
            begun = {"cell_hash": row["cell_hash"], "attempt": attempt, "worker": worker, "started": now}
            connection.execute(attempts.insert().values(**begun))
            run_dir = Path(row["run_dir"])
            return Claim(row["cell_hash"], attempt, row["number"], row["config"], run_dir, lease_seconds)

        self.reap()
        claim = self._database.run(work)
        failpoint("after_claim")
        return claim

    def beat(self, claim: Claim, worker: str) -> bool:
        """Renew the lease in the name of this process; False when the cell is no longer ours."""

        def work(connection: sa.Connection) -> bool:
            lease_until = self._database.lease_clock(connection) + claim.lease_seconds
            mine = _owned(claim).values(worker=worker, lease_until=lease_until)
            return connection.execute(mine).rowcount == 1

        return self._database.run(work)

    def keep_source(self, attempt: Attempt, source: Mapping[str, Any]) -> None:
        """Note which source an attempt runs (a row of ``sources``); a state that is known is not stored again."""
        identity = {"cell_hash": attempt.cell_hash, "attempt": attempt.attempt}

        def work(connection: sa.Connection) -> None:
            _insert_new(connection, sources, source)
            _insert_new(connection, attempt_sources, {**identity, "digest": source["digest"]})

        self._database.run(work)

    def keep_execution(self, attempt: Attempt, execution: Mapping[str, Any], processes: int) -> None:
        """Note how an attempt is carried out: ``Execution.to_json()`` of each of its processes."""
        identity = {"cell_hash": attempt.cell_hash, "attempt": attempt.attempt}
        row = {**identity, "processes": processes, "execution": json.dumps(dict(execution))}
        self._database.run(lambda connection: _insert_new(connection, executions, row))

    def record(self, claim: Claim, rows: Mapping[int, str]) -> bool:
        """Store metric rows (line number -> JSON); False, and nothing stored, when the cell is no longer ours."""

        def work(connection: sa.Connection) -> bool:
            if not _is_still_ours(connection, claim):
                return False
            identity = {"cell_hash": claim.cell_hash, "attempt": claim.attempt}
            _upsert_metrics(connection, [{**identity, "line": line, "row": row} for line, row in rows.items()])
            return True

        return not rows or self._database.run(work)

    def finish(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """Store the result and mark the cell done, in one transaction; repeating the call changes nothing.

        Raises:
            Fenced: The cell is no longer ours; nothing was written.
        """

        def work(connection: sa.Connection) -> None:
            now = self._database.now(connection)
            query = sa.select(results.c.attempt).where(results.c.cell_hash == claim.cell_hash)
            if connection.scalar(query) == claim.attempt:
                return
            if not _end(connection, claim, "done", now, state="done", error=None, finished=now):
                raise Fenced(claim.cell_hash)
            text = json.dumps(dict(result), sort_keys=True)
            row = {"cell_hash": claim.cell_hash, "attempt": claim.attempt, "result": text, "finished": now}
            connection.execute(results.insert().values(**row))
            failpoint("in_finish_tx")

        failpoint("before_finish")
        self._database.run(work)
        self._database.mark_filled()
        failpoint("after_finish")

    def prune(self, claim: Claim, reason: str) -> None:
        """End the cell without a result: it was not worth finishing. Does nothing if it is no longer ours."""

        def work(connection: sa.Connection) -> None:
            now = self._database.now(connection)
            _end(connection, claim, "pruned", now, state="pruned", error=reason, finished=now)

        self._database.run(work)

    def release(self, claim: Claim) -> None:
        """Give the cell back unfinished, which is no failure. Does nothing if it is no longer ours."""
        self._database.run(lambda c: _end(c, claim, "released", self._database.now(c), state="planned"))

    def fail(self, claim: Claim, error: str, final: bool = False) -> None:
        """Count a failure: planned again, or given up if ``final`` or after ``MAX_FAILURES`` of them."""

        def work(connection: sa.Connection) -> None:
            count = connection.scalar(sa.select(cells.c.failures).where(_is_ours(claim))) or 0
            now = self._database.now(connection)
            failed = _failed(final or count + 1 >= MAX_FAILURES, error, now)
            _end(connection, claim, "failed", now, failures=count + 1, **failed)

        self._database.run(work)

    def died(self, claim: Claim, error: str) -> None:
        """Count the death of the process that ran the cell: planned again, or given up after ``MAX_DEATHS``."""
        self._database.run(lambda c: self._count(c, claim, cells.c.deaths, MAX_DEATHS, error))

    def retry(self, keys: Keys = None, numbers: Sequence[int] | None = None) -> int:
        """Plan again which of these cells were given up; returns how many there were."""
        given_up = sa.and_(cells.c.state == "gave_up", among(keys))
        wanted = given_up if numbers is None else sa.and_(given_up, cells.c.number.in_(numbers))
        again = cells.update().where(wanted).values(state="planned", failures=0, deaths=0, losses=0, finished=None)
        return self._database.run(lambda connection: connection.execute(again).rowcount)

    def stop(self, keys: Keys = None, stopping: bool = True) -> None:
        """Ask all workers of these studies to end after a checkpoint, wherever they are; or take that back."""
        asked = studies.update().where(is_one_of(studies, keys)).values(stopping=stopping)
        self._database.run(lambda connection: connection.execute(asked))

    def reap(self) -> None:
        """Free the cells whose lease has ended, or whose process died on this machine.

        A trial of this machine that has let its lease end is killed: if it thawed, it would go on writing in a run
        folder that is somebody else's by now. Of a trial of another machine, in a SQLite file, only the silence counts.
        """

        def work(connection: sa.Connection) -> list[str]:
            overdue = []
            running = connection.execute(_running()).mappings().all()
            over = self._over(connection, running)
            for row in running:
                if row["cell_hash"] in over or died_here(row["worker"]):
                    lost = Attempt(row["cell_hash"], row["attempt"])
                    reason = f"process {row['worker']} died or hung"
                    self._count(connection, lost, cells.c.losses, MAX_LOSSES, reason)
                    if row["worker"] != row["claimed_by"]:  # a trial has begun, and it is not the worker
                        overdue.append(row["worker"])
            failpoint("in_reaper")
            return overdue

        for worker in self._database.run(work):
            kill_here(worker)

    def _over(self, connection: sa.Connection, running: Sequence[sa.RowMapping]) -> set[str]:
        """Hashes of running cells whose lease has ended."""
        if self._database.has_just_started(connection):
            return set()
        clock = self._database.lease_clock(connection)
        if not self._database.is_sqlite:
            return {row["cell_hash"] for row in running if row["lease_until"] < clock}
        here = [row for row in running if not ran_elsewhere(row["worker"])]
        return {row["cell_hash"] for row in here if row["lease_until"] < clock} | self._leases.ended(running, clock)

    def _count(self, connection: sa.Connection, lost: Attempt, column: sa.Column[int], limit: int, error: str) -> None:
        """Plan the cell again, or give it up at the limit."""
        now, count = self._database.now(connection), connection.scalar(sa.select(column).where(_is_ours(lost))) or 0
        _end(connection, lost, "died", now, **{column.name: count + 1}, **_failed(count + 1 >= limit, error, now))


def _failed(final: bool, error: str, now: float) -> Row:
    state = {"state": "gave_up", "finished": now} if final else {"state": "planned"}
    return {**state, "error": error}


def _end(connection: sa.Connection, ours: Attempt, outcome: Outcome, now: float, **changes: Any) -> bool:
    """Close this attempt and free the cell with these changes; False, and nothing done, if it is no longer ours."""
    if connection.execute(_owned(ours).values(**changes, **_FREE)).rowcount != 1:
        return False
    this = sa.and_(attempts.c.cell_hash == ours.cell_hash, attempts.c.attempt == ours.attempt)
    closed = attempts.update().where(this).values(ended=now, outcome=outcome, error=changes.get("error"))
    connection.execute(closed)
    return True


def _cell(cell_hash: str) -> sa.Update:
    return cells.update().where(cells.c.cell_hash == cell_hash)


def _is_ours(ours: Attempt) -> sa.ColumnElement[bool]:
    attempt = sa.and_(cells.c.cell_hash == ours.cell_hash, cells.c.attempt == ours.attempt)
    return sa.and_(attempt, cells.c.state == "running")


def _owned(ours: Attempt) -> sa.Update:
    return cells.update().where(_is_ours(ours))


def _is_still_ours(connection: sa.Connection, ours: Attempt) -> bool:
    """And stays so until the end of this transaction."""
    query = sa.select(cells.c.number).where(_is_ours(ours)).with_for_update(read=True)
    return connection.scalar(query) is not None


def _running() -> sa.Select[Any]:
    columns = cells.c.cell_hash, cells.c.number, cells.c.attempt, cells.c.worker, cells.c.lease_until
    current = sa.and_(attempts.c.cell_hash == cells.c.cell_hash, attempts.c.attempt == cells.c.attempt)
    query = sa.select(*columns, attempts.c.worker.label("claimed_by")).join(attempts, current)
    return query.where(cells.c.state == "running").with_for_update(skip_locked=True, of=cells)


def _first_planned(keys: Keys) -> sa.Select[Any]:
    """The planned cell with the lowest number of a study that goes on."""
    goes_on = sa.and_(members.c.experiment == studies.c.experiment, members.c.scale == studies.c.scale)
    mine = sa.and_(members.c.cell_hash == cells.c.cell_hash, goes_on, sa.not_(studies.c.stopping))
    wanted = exists_for_each_cell(sa.select(sa.literal(1)).select_from(members, studies).where(mine))
    query = sa.select(cells).where(cells.c.state == "planned", wanted, among(keys))
    # By state, too, so that PostgreSQL takes the index of both: by number alone it goes through all that have ended.
    return query.order_by(cells.c.state, cells.c.number).limit(1).with_for_update(skip_locked=True)


def _add_cells(connection: sa.Connection, key: StudyKey, planned: Sequence[Cell], run_root: str, now: float) -> None:
    known = set(connection.scalars(sa.select(cells.c.cell_hash)))
    fresh = {cell.hash: cell for cell in planned if cell.hash not in known}
    first = (connection.scalar(sa.select(sa.func.max(cells.c.number))) or 0) + 1
    rows = [_cell_row(cell, number, now) for number, cell in enumerate(fresh.values(), first)]
    if rows:
        connection.execute(cells.insert(), rows)
    if planned:
        connection.execute(members.insert(), [_member_row(key, cell) for cell in planned])
    in_root = cells.update().where(among([key])).values(run_dir=sa.literal(f"{run_root}/") + cells.c.cell_hash)
    connection.execute(in_root)


def _cell_row(cell: Cell, number: int, now: float) -> Row:
    identity = {"cell_hash": cell.hash, "number": number, "variant_hash": cell.config.variant_hash, "seed": cell.seed}
    start = {"state": "planned", "attempt": 0, "failures": 0, "deaths": 0, "losses": 0, "created": now}
    return {**identity, **start, "run_dir": "", "config": cell.config.canonical()}


def _member_row(key: StudyKey, cell: Cell) -> Row:
    place = {"experiment": key.experiment, "scale": key.scale, "position": cell.position}
    return {**place, "cell_hash": cell.hash, "axes": json.dumps(cell.axes)}


def _insert_new(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Add a row, unless its key is there."""
    connection.execute(_insert(connection, table).values(**row).on_conflict_do_nothing())


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """The dialect's own INSERT, which can say what happens on a conflict."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _upsert_metrics(connection: sa.Connection, rows: list[Row]) -> None:
    insert = _insert(connection, metrics)
    new = {"attempt": insert.excluded.attempt, "row": insert.excluded.row}
    connection.execute(insert.on_conflict_do_update(index_elements=["cell_hash", "line"], set_=new), rows)
