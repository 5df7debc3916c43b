"""The PostgreSQL server and the failing network that other tests rely on do what they say."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from postgres import PostgresServer
from postgres_proxy import Proxy
from sqlalchemy.exc import OperationalError

TESTS = Path(__file__).parents[2]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A new database with a table of numbers."""
    place = postgres.database("harness")
    postgres.execute("CREATE TABLE numbers (n int PRIMARY KEY)", place)
    return place


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with Proxy(postgres) as network:
        yield network


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool)


def _add(engine: sa.Engine, number: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO numbers VALUES ({number})")


def _numbers(url: str) -> list[int]:
    with _engine(url).connect() as connection:
        return list(connection.exec_driver_sql("SELECT n FROM numbers ORDER BY n").scalars())


def test_every_database_is_new(postgres: PostgresServer, url: str) -> None:
    _add(_engine(url), 1)
    other = postgres.database("harness")
    with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
        _numbers(other)


def test_the_short_form_of_the_url_means_the_same_driver(url: str) -> None:
    engine = _engine(url.replace("postgresql+psycopg://", "postgresql://"))
    _add(engine, 1)
    assert engine.driver == "psycopg"


def test_only_the_password_lets_in(postgres: PostgresServer) -> None:
    wrong = postgres.url.replace(postgres.password, "guessed")
    with pytest.raises(OperationalError, match="password authentication failed"):
        _numbers(wrong)


def test_it_listens_on_loopback_only(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


@pytest.mark.parametrize("way", ["fast", "immediate", "kill"])
def test_what_was_committed_survives(postgres: PostgresServer, url: str, way: str) -> None:
    idle = _engine(url).connect()
    idle.exec_driver_sql("SELECT 1")
    _add(_engine(url), 1)
    if way == "kill":
        postgres.kill()
    else:
        postgres.stop("fast" if way == "fast" else "immediate")
    with pytest.raises(OperationalError, match="refused"):
        _numbers(url)
    with pytest.raises(OperationalError):
        idle.exec_driver_sql("SELECT 1")
    idle.close()
    postgres.start()
    assert _numbers(url) == [1]


def test_an_administrator_ends_the_sessions(postgres: PostgresServer, url: str) -> None:
    with _engine(url).connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        postgres.cut_connections()
        with pytest.raises(OperationalError, match="terminating connection"):
            connection.exec_driver_sql("SELECT 1")


def test_the_proxy_forwards_and_cuts(proxy: Proxy, url: str) -> None:
    engine = _engine(proxy.through(url))
    _add(engine, 1)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        assert proxy.cut() == 1
        with pytest.raises(OperationalError):
            connection.exec_driver_sql("SELECT 1")
    _add(engine, 2)
    assert _numbers(url) == [1, 2]


def test_the_proxy_refuses_for_a_while(proxy: Proxy, url: str) -> None:
    engine = _engine(proxy.through(url))
    with engine.connect() as standing:
        proxy.refuse(0.5)
        with pytest.raises(OperationalError, match="refused"):
            _add(engine, 1)
        standing.exec_driver_sql("SELECT 1")
    time.sleep(0.6)
    _add(engine, 1)
    assert _numbers(url) == [1]


@pytest.mark.parametrize(("where", "kept"), [("reply", [1, 2, 3]), ("request", [1, 3])])
def test_the_proxy_loses_one_commit(proxy: Proxy, url: str, where: str, kept: list[int]) -> None:
    engine = _engine(proxy.through(url))
    proxy.lose_commit("reply" if where == "reply" else "request", skip=1)
    _add(engine, 1)
    with pytest.raises(OperationalError):
        _add(engine, 2)
    _add(engine, 3)
    assert _numbers(url) == kept
    assert proxy.lost == 1


def test_it_dies_with_the_tests(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """``postgres`` says by its skip whether a server can be had at all."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import pathlib, sys, time; from postgres import PostgresServer\n"
            "server = PostgresServer(pathlib.Path(sys.argv[1])); server.start(); print(server.url, flush=True)\n"
            "time.sleep(60)"
        )
        owner = subprocess.Popen([sys.executable, "-c", code, folder], cwd=TESTS, stdout=subprocess.PIPE, text=True)
        assert owner.stdout is not None
        url = owner.stdout.readline().strip().replace("+psycopg", "")
        psycopg.connect(url).close()
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
        deadline = time.monotonic() + 10
        while (Path(folder) / "data" / "postmaster.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(url)
