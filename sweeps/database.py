"""The ledger's tables, and transactions on them whose errors name the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from syncvis.errors import StorageError

State = Literal["planned", "running", "done", "gave_up"]
Row = dict[str, Any]

metadata = sa.MetaData()
cells = sa.Table(
    "cells",
    metadata,
    sa.Column("cell_hash", sa.String(16), primary_key=True),
    sa.Column("variant_hash", sa.String(16), nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("config", sa.Text, nullable=False, comment="canonical JSON"),
    sa.Column("state", sa.Enum(*get_args(State), name="state", native_enum=False), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, comment="grows with every claim: the fencing token"),
    sa.Column("failures", sa.Integer, nullable=False, comment="claims that ended in an error"),
    sa.Column("deaths", sa.Integer, nullable=False, comment="claims whose worker died or hung"),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", sa.Double),
    sa.Column("error", sa.Text),
    sa.Column("run_dir", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("started", sa.Double),
    sa.Column("finished", sa.Double),
)
members = sa.Table(
    "members",
    metadata,
    sa.Column("experiment", sa.String(60), primary_key=True),
    sa.Column("scale", sa.String(16), primary_key=True),
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("axes", sa.Text, nullable=False, comment="JSON: axis -> label"),
)
results = sa.Table(
    "results",
    metadata,
    sa.Column("cell_hash", sa.String(16), sa.ForeignKey("cells.cell_hash"), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("result", sa.Text, nullable=False, comment="JSON: RunResult.to_json()"),
    sa.Column("finished", sa.Double, nullable=False),
)

_CLOCK = {
    "sqlite": sa.text("(julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": sa.text("extract(epoch from clock_timestamp())"),
}
_LOCK_SECONDS = 60


class Database:
    """A SQLite file, or another database by URL.

    Raises:
        StorageError: It cannot be opened, or has lost the results that it held.
    """

    def __init__(self, place: str | Path):
        url = str(place) if "://" in str(place) else f"sqlite:///{place}"
        try:
            self.engine = sa.create_engine(url)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StorageError(f"no database: {error}", file=place, fix="give a file or a database URL") from None
        self.name = self.engine.url.render_as_string(hide_password=True).removeprefix("sqlite:///")
        self._marker = Path(f"{self.name}.marker") if self.engine.dialect.name == "sqlite" else None
        if self._marker:
            _refuse_lost_file(Path(self.name), self._marker)
            _prepare_sqlite(self.engine)
        with self.transaction() as connection:
            metadata.create_all(connection)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All or nothing; on SQLite it holds the write lock from its start."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            fix = "check the disk and the file, or restore it from a copy"
            raise StorageError(str(error.orig).splitlines()[0], file=self.name, fix=fix) from None

    def read(self, query: sa.Select[Any]) -> list[Row]:
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def now(self, connection: sa.Connection) -> float:
        """Seconds since 1970 on the database's clock."""
        return float(connection.scalar(sa.select(_CLOCK[self.engine.dialect.name])) or 0)

    def mark_filled(self) -> None:
        """Leave a file beside a SQLite database that says: it has held results."""
        if self._marker:
            self._marker.touch()


def _refuse_lost_file(file: Path, marker: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        empty = not file.exists() or file.stat().st_size == 0
        lost = empty and marker.exists()
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
