"""The dashboard shows a copy of the ledger, to its own pages, and lets nobody change anything."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import sqlalchemy as sa
from cells import NK, end_each_way, finish, take

from sweeps.choosing import mirror_to_optuna, rows_by_study
from sweeps.dashboard import Address, Dashboard, door
from sweeps.database import metadata, psycopg_url
from sweeps.enrolment import enrol
from sweeps.experiment import load_experiment, study_at
from sweeps.ledger import Ledger
from sweeps.optuna_mirror import storage_url
from syncvis.errors import StorageError

pytest.importorskip("optuna_dashboard")

OWN = "127.0.0.1:8080"
Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Answer]


def asks(app: Any) -> Ask:
    """``ask("DELETE", "/api/studies/0", HOST="evil")``: status, headers and body."""

    def ask(method: str, path: str, body: bytes = b"", HOST: str | None = OWN, **headers: str) -> Answer:
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": HOST}
        environ |= {f"HTTP_{name}": value for name, value in headers.items()}
        setup_testing_defaults(environ)
        if HOST is None:
            del environ["HTTP_HOST"]
        heard: list[Any] = []
        content = app(environ, lambda status, fields, *_: heard.extend((int(status.split()[0]), dict(fields))))
        answer = b"".join(content)
        if hasattr(content, "close"):
            content.close()
        return (*heard, answer)

    return ask


@pytest.fixture(params=["sqlite", "postgresql"])
def begun(request, write_experiment, tmp_path) -> tuple[Ledger, str]:
    """A ledger whose five cells ended each way, and the Optuna storage that mirrors it."""
    place, optuna = str(tmp_path / "ledger.db"), f"sqlite:///{tmp_path / 'optuna.db'}"
    if request.param == "postgresql":
        place = request.getfixturevalue("postgres").database("dashboard")
        optuna = storage_url(psycopg_url(place))
    ledger = Ledger(place)
    axes = {"Nk": {"key": "sync.num_selected", "values": [2, 4, 6, 8, 10]}}
    enrol(ledger, study_at(load_experiment(write_experiment(axes=axes, seeds=[0])), "smoke"), tmp_path / "runs")
    end_each_way(ledger)
    mirror_to_optuna(ledger.view, None, optuna)
    return ledger, optuna


def dashboard_of(ledger: Ledger, seconds: float = 30.0) -> Ask:
    shown = Dashboard(lambda: rows_by_study(ledger.view, None), ledger.view.place, seconds)
    return asks(door(shown, Address("127.0.0.1", 8080)))


def rows_of(ledger: Ledger, optuna: str) -> dict[str, list[Any]]:
    """Every row of the ledger and of Optuna's storage."""
    found = {table.name: ledger.view.read(sa.select(table)) for table in metadata.sorted_tables}
    engine = sa.create_engine(optuna)
    with engine.connect() as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            found[f"optuna {table.name}"] = sorted(map(repr, connection.execute(sa.select(table)).all()))
    engine.dispose()
    return found


def trials(ask: Ask) -> list[dict[str, Any]]:
    status, _, body = ask("GET", "/api/studies/0")
    assert status == 200
    found: list[dict[str, Any]] = json.loads(body)["trials"]
    return found


def test_it_shows_every_cell_as_the_ledger_has_it(begun):
    ledger, _ = begun
    ask = dashboard_of(ledger)
    studies = json.loads(ask("GET", "/api/studies")[2])["study_summaries"]
    assert [study["study_name"] for study in studies] == ["nk-smoke"]
    found = trials(ask)
    assert [trial["number"] for trial in found] == [1, 2, 3, 4, 5]
    assert [trial["state"] for trial in found] == ["Complete", "Fail", "Pruned", "Running", "Waiting"]
    done = found[0]
    (row,) = [row for row in ledger.view.cells() if row["number"] == 1]
    assert done["datetime_start"] < done["datetime_complete"]
    assert row["finished"] - row["started"] > 0
    assert done["values"] == [ledger.view.final_values(NK)[row["cell_hash"]]]
    assert {attr["key"]: attr["value"] for attr in done["user_attrs"]}["cell_hash"] == row["cell_hash"]
    assert ask("GET", "/dashboard")[0] == ask("HEAD", "/dashboard/studies/0")[0] == 200
    assert ask("GET", "/")[0] == 302


def test_the_study_says_that_it_is_a_copy_and_when_it_was_taken(begun):
    ledger, _ = begun
    note = json.loads(dashboard_of(ledger)("GET", "/api/studies/0")[2])["note"]["body"]
    assert note.startswith(f"A copy of {ledger.view.place}, taken 20")
    assert "Nothing can be changed here" in note


CHANGES = [
    ("DELETE", "/api/studies/0", b"{}"),
    ("POST", "/api/studies", b'{"study_name": "new", "directions": ["maximize"]}'),
    ("POST", "/api/studies/0/rename", b'{"study_name": "new"}'),
    ("PUT", "/api/studies/0/note", b'{"body": "x", "version": 9}'),
    ("PUT", "/api/studies/0/1/note", b'{"body": "x", "version": 9}'),
    ("POST", "/api/trials/3/tell", b'{"state": "Fail"}'),
    ("POST", "/api/trials/0/user-attrs", b'{"user_attrs": {"a": 1}}'),
    ("PATCH", "/api/studies/0", b"{}"),
    ("OPTIONS", "/api/studies/0", b""),
]
FOREIGN: list[dict[str, Any]] = [
    {"HOST": "evil.example"},
    {"HOST": "evil.example:8080"},  # a name that was made to point here
    {"HOST": "127.0.0.1"},
    {"HOST": "127.0.0.1:8081"},
    {"HOST": "127.0.0.1:8080.evil.example"},
    {"HOST": "127.0.0.1:8080@evil.example:8080"},
    {"HOST": "127.0.0.2:8080"},
    {"HOST": ""},
    {"HOST": None},
    {"HOST": "127.0.0.1:8080,evil.example"},
    {"ORIGIN": "http://evil.example"},
    {"ORIGIN": "null"},
    {"ORIGIN": ""},
    {"ORIGIN": "https://127.0.0.1:8080"},
    {"ORIGIN": "http://127.0.0.1:3000"},
    {"ORIGIN": "http://127.0.0.1:8080.evil.example"},
    {"ORIGIN": "http://[::1"},
    {"REFERER": "http://evil.example/127.0.0.1:8080/"},
    {"REFERER": "http://127.0.0.1:3000/dashboard"},
    {"SEC_FETCH_SITE": "cross-site"},
    {"SEC_FETCH_SITE": "same-site"},
    {"HOST": "evil.example:8080", "ORIGIN": "http://evil.example:8080", "SEC_FETCH_SITE": "same-origin"},
]


def test_nothing_can_be_changed_from_its_own_pages_or_from_elsewhere(begun):
    ledger, optuna = begun
    ask = dashboard_of(ledger)
    before, shown = rows_of(ledger, optuna), ask("GET", "/api/studies/0")[2]
    assert (len(before["cells"]), len(before["optuna trials"])) == (5, 3)
    own = {"ORIGIN": f"http://{OWN}", "REFERER": f"http://{OWN}/dashboard", "SEC_FETCH_SITE": "same-origin"}
    for method, path, body in CHANGES:
        for headers in ({}, own):
            status, fields, answer = ask(method, path, body, **headers)
            assert (status, fields["Allow"]) == (405, "GET, HEAD"), (method, path)
            assert "nothing can be changed" in json.loads(answer)["reason"]
        for headers in FOREIGN:
            assert ask(method, path, body, **headers)[0] == 403, (method, path, headers)
    assert rows_of(ledger, optuna) == before
    assert ask("GET", "/api/studies/0")[2] == shown


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_pages_do_not_even_read(headers):
    def never(environ: Any, start_response: Any) -> Any:
        raise AssertionError("was asked")

    status, _, body = asks(door(never, Address("127.0.0.1", 8080)))("GET", "/api/studies", **headers)
    assert status == 403
    assert json.loads(body)["reason"].endswith("is not this dashboard; open http://127.0.0.1:8080/")


@pytest.mark.parametrize(
    ("address", "own", "foreign"),
    [
        (Address("127.0.0.1", 80), ["127.0.0.1", "localhost:80", "LOCALHOST"], ["127.0.0.1:8080"]),
        (Address("::1", 9000), ["[::1]:9000", "localhost:9000"], ["::1:9000", "[::2]:9000"]),
        (Address("localhost", 9000), ["localhost:9000", "127.0.0.1:9000"], ["localhost.:9000", "localhost"]),
        (Address("127.0.0.2", 9000), ["127.0.0.2:9000", "127.0.0.1:9000"], ["127.0.0.3:9000"]),
        (Address("0.0.0.0", 9000), ["10.1.2.3:9000", "[fe80::1]:9000"], ["evil.example:9000", "10.1.2.3"]),
        (Address("node7", 9000), ["node7:9000", "NODE7:9000"], ["node8:9000", "10.1.2.3:9000"]),
    ],
)
def test_the_names_of_an_address(address, own, foreign):
    assert [name for name in own if not address.owns(name)] == []
    assert [name for name in foreign if address.owns(name)] == []


def test_a_copy_is_taken_anew_once_it_is_old_and_kept_while_the_ledger_is_away(begun, monkeypatch):
    ledger, _ = begun
    now, kept = dashboard_of(ledger, 0.0), dashboard_of(ledger, 1000.0)
    finish(ledger)
    assert [ask_state(ask, 4) for ask in (now, kept)] == ["Complete", "Waiting"]
    ledger.retry()
    assert ask_state(now, 1) == "Waiting"
    take(ledger)
    assert ask_state(now, 1) == "Running"

    def away(*_: Any) -> Any:
        raise StorageError("is away", file="ledger.db")

    monkeypatch.setattr(ledger.view, "studies", away)
    assert ask_state(now, 1) == "Running"
    with pytest.raises(StorageError, match="is away"):
        dashboard_of(ledger)


def ask_state(ask: Ask, place: int) -> str:
    return str(trials(ask)[place]["state"])
