"""Reads a ledger, a SQLite file or a PostgreSQL database, as it stood at one moment; changes and makes nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, ProgrammingError, SQLAlchemyError

from syncvis.errors import StorageError

Row = dict[str, Any]

SCHEMA_VERSION = 2
_VERSION = "SELECT schema_version FROM about"
_CELLS = """
SELECT m.experiment, m.scale, m.cell_hash, m.position, m.axes, c.number, c.seed, c.config, c.state,
       c.attempt, c.error, c.run_dir, r.result, COALESCE(r.finished, c.finished) AS finished
FROM members AS m
LEFT JOIN cells AS c ON c.cell_hash = m.cell_hash
LEFT JOIN results AS r ON r.cell_hash = m.cell_hash
ORDER BY m.experiment, m.scale, m.position, m.cell_hash
"""
_STUDIES = "SELECT experiment, scale, definition FROM studies"
_REPORTS = """
SELECT t.cell_hash, t.line, t."row" AS report
FROM metrics AS t JOIN cells AS c ON c.cell_hash = t.cell_hash
WHERE c.state = 'pruned' AND t."row" LIKE '%"eval/AP"%'
ORDER BY t.cell_hash, t.line
"""
_SOURCES = """
SELECT DISTINCT a.cell_hash, s.code
FROM attempt_sources AS a JOIN sources AS s ON s.digest = a.digest
ORDER BY a.cell_hash, s.code
"""


@dataclass(frozen=True)
class Snapshot:
    """Rows of one moment.

    Attributes:
        place: the file, or the URL without its password.
        cells: one row per (experiment, scale, cell) with the cell's columns and ``result``, in plan order.
        studies: ``experiment``, ``scale``, ``definition`` (JSON).
        reports: ``cell_hash``, ``line``, ``report`` (JSON): the evaluations of the pruned cells, in their order.
        sources: ``cell_hash``, ``code``: the fingerprints of the source that its attempts ran.
    """

    place: str
    cells: list[Row]
    studies: list[Row]
    reports: list[Row]
    sources: list[Row]


def read_ledger(place: str | Path) -> Snapshot:
    """Read all that tables need in one read-only transaction; the right to read is enough.

    Args:
        place: Path of a SQLite file, or a PostgreSQL URL.

    Raises:
        StorageError: There is no such ledger, it cannot be read, or another version made it.
    """
    url = _url(place)
    name = url.set(query={}).render_as_string(hide_password=True).removeprefix("sqlite:///")
    try:
        engine = _sqlite(name) if url.get_backend_name() == "sqlite" else _server(url)
        try:
            with engine.connect() as connection:
                return _read(connection, name)
        finally:
            engine.dispose()
    except (SQLAlchemyError, sqlite3.Error, ImportError) as error:
        raise _unreadable(error, url, name) from None


def _read(connection: sa.Connection, name: str) -> Snapshot:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")  # the driver begins none for a SELECT
    version = connection.scalar(sa.text(_VERSION))
    if version != SCHEMA_VERSION:
        problem = f"was made by another version (tables {version}, this version has {SCHEMA_VERSION})"
        raise StorageError(problem, file=name, fix="use another --out or --storage, or that version")
    cells, studies, reports = (
        [dict(row) for row in connection.execute(sa.text(query)).mappings()] for query in (_CELLS, _STUDIES, _REPORTS)
    )
    return Snapshot(name, cells, studies, reports, _sources(connection))


def _sources(connection: sa.Connection) -> list[Row]:
    """Asked last: none where the ledger is older than these tables, or the role may not read them yet."""
    if not all(sa.inspect(connection).has_table(name) for name in ("attempt_sources", "sources")):
        return []
    try:
        return [dict(row) for row in connection.execute(sa.text(_SOURCES)).mappings()]
    except ProgrammingError:
        return []


def _sqlite(file: str) -> sa.Engine:
    path = Path(file)
    if not path.is_file() or path.stat().st_size == 0:
        fix = "fill it with `syncvis sweep run EXPERIMENT`, or give --out or --storage"
        raise StorageError("no ledger here", file=path, fix=fix)
    address = f"{path.resolve().as_uri()}?mode=ro"
    return sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True))


def _server(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _url(place: str | Path) -> sa.URL:
    """The parts of a file's path or a URL; an error does not repeat the text, which may hold a password."""
    text = str(place)
    if "://" not in text:
        return sa.URL.create("sqlite", database=text)
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in ("sqlite", "postgresql") or not url.database:
        fix = "give a file, or postgresql://USER@HOST/DATABASE"
        raise StorageError("is no SQLite file or PostgreSQL database", file="--storage", fix=fix)
    return url


def _unreadable(error: Exception, url: sa.URL, name: str) -> StorageError:
    reason = (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]
    for secret in (url.password, url.query.get("password")):
        reason = reason.replace(str(secret), "***") if secret else reason
    fix = "restore the file, or build a new one with `syncvis sweep run EXPERIMENT`"
    if url.get_backend_name() != "sqlite":
        fix = "check that the server runs, the URL is right, the role may read, and `syncvis sweep run` has filled it"
    if isinstance(error, ImportError):
        fix = "in a clone: pip install -e '.[postgres]'"
    return StorageError(f"is not a readable ledger ({reason})", file=name, fix=fix)
