"""Ledgers as they are opened: SQLite and PostgreSQL, read-only, as of one moment, and with errors that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from analysis import ledger
from analysis.cli import app
from analysis.ledger import read_ledger
from analysis.trials import load_trials
from sweeps.database import SCHEMA_VERSION
from syncvis.errors import StorageError


@pytest.fixture
def server_book(postgres: Any, tmp_path: Path, book_at: Any) -> Any:
    """nk on a PostgreSQL ledger: two seeds of Nk = 2, one of Nk = 10 that is pruned."""
    book = book_at(tmp_path, postgres.database("report"))
    book.describe(book.nk)
    book.add("nk", {"Nk": 2}, 0, {"AP": 10.0, "AP50": 20.0})
    book.add("nk", {"Nk": 2}, 1, {"AP": 12.0, "AP50": None})
    book.add("nk", {"Nk": 10}, 0, None, state="pruned", reports=[3.0, 4.5])
    return book


@pytest.fixture
def reader(postgres: Any, server_book: Any) -> str:
    """URL of a role that may only read that ledger."""
    url = sa.make_url(server_book.ledger)
    role = f"reader_of_{url.database}"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'canary-reader'", server_book.ledger)
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", server_book.ledger)
    return url.set(username=role, password="canary-reader").render_as_string(hide_password=False)


def report(out: Path, *words: str) -> str:
    parent = typer.Typer()
    parent.add_typer(app, name="report")
    parent.command()(lambda: None)
    result = CliRunner().invoke(parent, ["report", "--out", str(out), *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_it_knows_the_tables_of_the_sweeps() -> None:
    assert ledger.SCHEMA_VERSION == SCHEMA_VERSION


def test_postgres_gives_the_same_frames(server_book: Any, tmp_path: Path, book_at: Any) -> None:
    (tmp_path / "other").mkdir()
    other = book_at(tmp_path / "other")
    other.describe(other.nk)
    other.add("nk", {"Nk": 2}, 0, {"AP": 10.0, "AP50": 20.0})
    other.add("nk", {"Nk": 2}, 1, {"AP": 12.0, "AP50": None})
    pruned = other.add("nk", {"Nk": 10}, 0, None, state="pruned", reports=[3.0, 4.5])
    ours, theirs = load_trials(other.ledger), load_trials(server_book.ledger)
    for name in ("history", "per_video"):
        assert getattr(ours, name).equals(getattr(theirs, name))
    assert ours.values.drop(columns="run_dir").equals(theirs.values.drop(columns="run_dir"))
    assert ours.cells.drop(columns="run_dir").equals(theirs.cells.drop(columns="run_dir"))
    assert ours.studies == theirs.studies
    assert ours.reports == theirs.reports == {pruned: 4.5}


def test_the_right_to_read_is_enough(reader: str, server_book: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SYNCVIS_STORAGE", reader)
    output = report(server_book.out, "--experiments", str(server_book.experiments))
    assert "| 2 | 11.0 ± 1.4 (n=2/2) | 20.0 (n=1/2†, 1 NaN) |" in output
    assert "2 of 3 cells finished; not in the numbers: 1 pruned." in output
    assert "canary" not in output + (server_book.out / "report" / "index.html").read_text()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_one_moment_is_read_while_a_sweep_goes_on(kind: str, request: Any, monkeypatch: Any) -> None:
    """Every question sees what the first one saw."""
    book = request.getfixturevalue("server_book" if kind == "postgresql" else "nk_book")
    book.add("nk", {"Nk": 16}, 0, None, state="pruned", reports=[1.0])
    ask, before = sa.Connection.execute, read_ledger(book.ledger)

    def meanwhile(self: Any, query: Any, *rest: Any) -> Any:
        answer = ask(self, query, *rest)
        if "FROM members" in str(query):
            monkeypatch.undo()
            book.do("DELETE FROM metrics", "DELETE FROM studies")
        return answer

    monkeypatch.setattr(sa.Connection, "execute", meanwhile)
    assert read_ledger(book.ledger) == before
    assert before.reports
    assert read_ledger(book.ledger).reports == read_ledger(book.ledger).studies == []


def test_errors_name_the_database_and_hide_the_password(postgres: Any, reader: str) -> None:
    empty = postgres.database("empty")
    wrong = sa.make_url(empty).set(password="canary-wrong").render_as_string(hide_password=False)
    away = "postgresql://me:canary-away@127.0.0.1:1/sweeps?password=canary-too"
    for url, problem in ((empty, '"about" does not exist'), (wrong, "authentication failed"), (away, "refused")):
        with pytest.raises(StorageError, match=rf"^postgresql.*:\*\*\*@127.0.0.1.*{problem}.*Fix: ") as error:
            read_ledger(url)
        assert "canary" not in str(error.value)
    forbidden = sa.make_url(reader).set(database=sa.make_url(empty).database).render_as_string(False)
    postgres.execute("CREATE TABLE about (schema_version int)", empty)
    with pytest.raises(StorageError, match=r"permission denied.*the role may read"):
        read_ledger(forbidden)


@pytest.mark.parametrize(
    "text", ["mysql://me:canary@host/x", "postgresql://me:x@host:canary/y", "postgresql://h", "://"]
)
def test_what_is_no_database_is_not_repeated(text: str) -> None:
    with pytest.raises(StorageError, match=r"^--storage: is no SQLite file or PostgreSQL database\. Fix: ") as error:
        read_ledger(text)
    assert "canary" not in str(error.value)


def test_a_sqlite_ledger_may_be_given_as_storage(nk_book: Any, tmp_path: Path) -> None:
    for place in (str(nk_book.ledger), f"sqlite:///{nk_book.ledger}"):
        assert "35.0 ± 7.1" in report(tmp_path, "--storage", place, "--experiments", str(nk_book.experiments))


def test_a_sqlite_ledger_is_opened_read_only(nk_book: Any) -> None:
    engine = ledger._sqlite(str(nk_book.ledger))
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError, match="readonly"):
        connection.exec_driver_sql("DELETE FROM results")
    engine.dispose()


@pytest.mark.parametrize("change", ["UPDATE about SET schema_version = 1", "DELETE FROM about"])
def test_a_ledger_of_another_version_is_refused(nk_book: Any, change: str) -> None:
    nk_book.do(change)
    with pytest.raises(StorageError, match=r"ledger\.db: was made by another version"):
        read_ledger(nk_book.ledger)
