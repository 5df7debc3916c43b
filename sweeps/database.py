"""The ledger's tables, and transactions on them: repeated while the server is away, with errors that name it."""

from __future__ import annotations

import random
import sqlite3
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from syncvis.errors import StorageError

State = Literal["planned", "running", "done", "pruned", "gave_up"]
Row = dict[str, Any]
T = TypeVar("T")

SCHEMA_VERSION = 2
PATIENCE_SECONDS = 600.0
"""How long a worker waits for a database that is away: longer than a server's restart, shorter than a night."""
GRACE_SECONDS = 15.0
"""How long after the start of a server expired leases are let be: longer than the pause between two tries."""

metadata = sa.MetaData()
about = sa.Table("about", metadata, sa.Column("schema_version", sa.Integer, primary_key=True))
studies = sa.Table(
    "studies",
    metadata,
    sa.Column("experiment", sa.String(60), primary_key=True),
    sa.Column("scale", sa.String(16), primary_key=True),
    sa.Column("definition", sa.Text, nullable=False, comment="JSON: everything that its cells are made from"),
    sa.Column("size", sa.Integer, nullable=False, comment="how many members it has: appending one checks it"),
    sa.Column("run_root", sa.Text, nullable=False, comment="where the run folders of its cells go"),
    sa.Column("exhausted", sa.Boolean, nullable=False, comment="a search has no other cell to add"),
    sa.Column("stopping", sa.Boolean, nullable=False, comment="workers are asked to end"),
    sa.Column("created", sa.Double, nullable=False),
)
cells = sa.Table(
    "cells",
    metadata,
    sa.Column("cell_hash", sa.String(16), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, unique=True, comment="the trial's number; claims go in its order"),
    sa.Column("variant_hash", sa.String(16), nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("config", sa.Text, nullable=False, comment="canonical JSON"),
    sa.Column("state", sa.Enum(*get_args(State), name="state", native_enum=False), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, comment="grows with every claim: the fencing token"),
    sa.Column("failures", sa.Integer, nullable=False, comment="claims that ended in an error"),
    sa.Column("deaths", sa.Integer, nullable=False, comment="claims whose trial died, and its worker saw it"),
    sa.Column("losses", sa.Integer, nullable=False, comment="claims whose worker was lost, or whose trial hung"),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", sa.Double, comment="on the lease clock, see Database.lease_clock"),
    sa.Column("error", sa.Text),
    sa.Column("run_dir", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("started", sa.Double),
    sa.Column("finished", sa.Double, index=True),
    sa.Index("cells_state_number", "state", "number"),
)
members = sa.Table(
    "members",
    metadata,
    sa.Column("experiment", sa.String(60), primary_key=True),
    sa.Column("scale", sa.String(16), primary_key=True),
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("axes", sa.Text, nullable=False, comment="JSON: axis -> label"),
)
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),
    sa.Column("outcome", sa.String(16), comment="done, pruned, released, failed or died"),
    sa.Column("error", sa.Text),
)
metrics = sa.Table(
    "metrics",
    metadata,
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True, comment="line of the run's metrics.jsonl, from 0"),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("row", sa.Text, nullable=False, comment="JSON"),
)
sources = sa.Table(
    "sources",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True, comment="of all the others: a state is stored once"),
    sa.Column("commit", sa.String(64)),
    sa.Column("code", sa.String(16), nullable=False, comment="fingerprint of the code alone"),
    sa.Column("patch", sa.LargeBinary, nullable=False, comment="gzip: what differs from the commit"),
    sa.Column("changed", sa.Text, nullable=False, comment="JSON: files of the code that differ from the commit"),
    sa.Column("left_out", sa.Text, nullable=False, comment="JSON: what the patch lacks, with reasons"),
)
attempt_sources = sa.Table(
    "attempt_sources",
    metadata,
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(64), sa.ForeignKey("sources.digest"), nullable=False),
)
executions = sa.Table(
    "executions",
    metadata,
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("processes", sa.Integer, nullable=False, comment="how many trained together"),
    sa.Column("execution", sa.Text, nullable=False, comment="JSON: Execution.to_json(), of each process"),
)
results = sa.Table(
    "results",
    metadata,
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("result", sa.Text, nullable=False, comment="JSON: RunResult.to_json()"),
    sa.Column("finished", sa.Double, nullable=False),
)

_WALL_CLOCK = {
    "sqlite": sa.text("(julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": sa.text("extract(epoch from clock_timestamp())"),
}
_UPTIME = sa.text("extract(epoch from clock_timestamp() - pg_postmaster_start_time())")
_LOCK_SECONDS = 60
# One number for all that may only happen one at a time: making the tables, numbering new cells.
_ALONE = sa.text("SELECT pg_advisory_xact_lock(7092024)")
_POSTGRES = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # A worker that freezes inside a transaction must not hold its locks for ever.
    "options": "-c statement_timeout=60000 -c idle_in_transaction_session_timeout=30000",
}
# SQLSTATE classes that pass by themselves: connection, operator intervention, rollback; and what psycopg leaves empty.
_PASSING = ("08", "57", "40", "25P03", "55P03")
_HOPELESS = ("password authentication failed", "does not exist", "no password supplied", "could not translate")


class Database:
    """A SQLite file, or a PostgreSQL database by URL.

    Args:
        patience: Seconds for which everything is tried again while the server is away or the file is locked.
        is_open: Somebody has opened it before, so that nothing needs to be checked or made.

    Raises:
        StorageError: It cannot be opened, was made by another version, or has lost the results that it held.
    """

    def __init__(self, place: str | Path, patience: float = PATIENCE_SECONDS, is_open: bool = False):
        self.engine = _engine(place)
        weakref.finalize(self, self.engine.dispose)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.name = self.engine.url.render_as_string(hide_password=True).removeprefix("sqlite:///")
        self.patience = patience
        self._marker = Path(f"{self.name}.marker") if self.is_sqlite else None
        if self._marker and not is_open:
            _refuse_lost_file(Path(self.name), self._marker)
        if self.is_sqlite:
            _prepare_sqlite(self.engine)
        if not is_open:
            self.run(self._make_tables)

    def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` in one transaction, and return what it returns; on SQLite it holds the write lock from its start.

        If the connection is lost, all of it is done again, also when it may have been committed just before: ``work``
        must change nothing the second time.

        Raises:
            StorageError: The database refuses, or was away for longer than our patience.
        """
        deadline, pause = time.monotonic() + self.patience, 0.05
        while True:
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _passes(error) or time.monotonic() + pause > deadline:
                    raise self._error(error) from None
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 5.0)

    def read(self, query: sa.Select[Any]) -> list[Row]:
        return self.run(lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def alone(self, connection: sa.Connection) -> None:
        """Let no other transaction that calls this run at the same time; SQLite never does."""
        if not self.is_sqlite:
            connection.execute(_ALONE)

    def now(self, connection: sa.Connection) -> float:
        """Seconds since 1970 on the database's clock: when something happened."""
        return float(connection.scalar(sa.select(_WALL_CLOCK[self.engine.dialect.name])) or 0)

    def lease_clock(self, connection: sa.Connection) -> float:
        """Seconds on the clock that leases are counted on.

        Of a SQLite file, which only one machine may use, that machine's clock since its start, which nobody sets;
        otherwise the server's clock, the only one that all machines share.
        """
        return time.clock_gettime(time.CLOCK_MONOTONIC) if self.is_sqlite else self.now(connection)

    def has_just_started(self, connection: sa.Connection) -> bool:
        """Whether the server was away a moment ago, so that nobody could renew a lease."""
        if self.is_sqlite:
            return False
        return bool(connection.scalar(sa.select(_UPTIME)) < GRACE_SECONDS)

    def gather_statistics(self, connection: sa.Connection) -> None:
        """Tell the server's planner that tables have grown: what it thinks small it reads from end to end."""
        if not self.is_sqlite:
            connection.exec_driver_sql("ANALYZE cells, members")

    def mark_filled(self) -> None:
        """Leave a file beside a SQLite database that says: it has held results."""
        if self._marker:
            self._marker.touch()

    def _make_tables(self, connection: sa.Connection) -> None:
        self.alone(connection)
        names = set(sa.inspect(connection).get_table_names())
        found = connection.scalar(sa.select(about.c.schema_version)) if "about" in names else None
        if found != SCHEMA_VERSION and "cells" in names:
            problem = f"was made by another version (tables {found or 1}, this version has {SCHEMA_VERSION})"
            raise StorageError(problem, file=self.name, fix="use another --out or --storage, or that version")
        metadata.create_all(
            connection
        )  # also what a ledger of this version lacks that was made before it was thought of
        if found is None:
            connection.execute(about.insert().values(schema_version=SCHEMA_VERSION))

    def _error(self, error: DBAPIError) -> StorageError:
        lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        full = "full" in lines[0] or "No space left" in lines[0]
        fix = "free disk space" if full else "check the disk and the file, or restore it from a copy"
        if not self.is_sqlite:
            fix = "check that the server runs and the URL is right; the same command then goes on"
        return StorageError(f"the disk is full ({lines[0]})" if full else lines[0], file=self.name, fix=fix)


def _engine(place: str | Path) -> sa.Engine:
    text = str(place)
    url = text if "://" in text else f"sqlite:///{text}"
    try:
        made = sa.make_url(psycopg_url(url))
        if made.get_backend_name() not in _WALL_CLOCK:
            raise ArgumentError(f"{made.get_backend_name()} is not supported")
        if made.get_backend_name() == "sqlite":
            return sa.create_engine(made)
        return sa.create_engine(made, connect_args=_POSTGRES, pool_pre_ping=True, pool_size=2)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        fix = "give a file, or postgresql://... (in a clone: pip install -e '.[postgres]')"
        raise StorageError(f"no database: {error}", file=_without_password(text), fix=fix) from None


def psycopg_url(url: str) -> str:
    """The URL with the driver that we install, where it names none."""
    return "postgresql+psycopg://" + url.removeprefix("postgresql://") if url.startswith("postgresql://") else url


def _without_password(text: str) -> str:
    try:
        return sa.make_url(text).render_as_string(hide_password=True)
    except ArgumentError:
        return text.rsplit("@", 1)[-1]


def _passes(error: DBAPIError) -> bool:
    """Whether the same may succeed a little later: the server restarts, or others hold the lock."""
    text, state = str(error.orig), getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in text or "busy" in text
    if state is not None:
        return str(state).startswith(_PASSING)
    return type(error.orig).__name__ == "OperationalError" and not any(word in text for word in _HOPELESS)


def _refuse_lost_file(file: Path, marker: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        empty = not file.exists() or file.stat().st_size == 0
        lost = empty and marker.exists()
        if not lost:
            file.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"cannot be used ({error.strerror})", file=file, fix="choose another --out") from None
    if lost:
        fix = f"restore it from a copy, or delete {marker} to start anew"
        raise StorageError("is empty or gone, but it has held results", file=file, fix=fix)


def _prepare_sqlite(engine: sa.Engine) -> None:
    """Write-ahead log, patience for locks, and BEGIN IMMEDIATE: two claims can never read the same state."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own, later BEGIN is turned off
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_SECONDS * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
