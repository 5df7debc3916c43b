"""The same commands on a PostgreSQL ledger: every question is asked there, and no password is printed."""

from __future__ import annotations

import csv
import io
import json
import socket
import time

import pytest
from cells import NK, alter, end_each_way, finish

from sweeps.commands import options
from sweeps.data_guard import changed_data
from sweeps.ledger import Ledger
from syncvis.errors import StorageError


@pytest.fixture
def ledger(postgres, plan_values, add, tmp_path):
    made = Ledger(postgres.database("control"))
    add(made, plan_values([2, 4, 6, 8, 10]), tmp_path / "outputs" / "runs")
    end_each_way(made)
    return made


@pytest.fixture
def ask(sweep, postgres, ledger, monkeypatch):
    """Call a command on that ledger, and look for the password in what it prints."""
    url = ledger._database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("SYNCVIS_STORAGE", url)

    def call(*words):
        result = sweep(*words)
        assert postgres.password not in result.output
        return result.output

    return call


def test_plan_status_and_export(ask, ledger, tmp_path):
    alter(ledger, "UPDATE attempts SET started = 0, ended = 7200 WHERE ended IS NOT NULL")
    plan = ask("plan", "--scale", "smoke", "--workers", "1")
    assert "left: 3.00 hours of one process" in plan
    assert "done 2.00 h in 1, failed 2.00 h in 1, pruned 2.00 h in 1, running 0.00 h in 1 attempts" in plan
    status = ask("status")
    assert "0.5 cells per hour, about 4 h 00 min left" in status
    assert "trial 2, nk: Nk=4, seed 0, given up: loss is nan" in status
    assert "12.50" in status
    states = [row["state"] for row in csv.DictReader(io.StringIO(ask("export")))]
    assert states == ["done", "gave_up", "pruned", "running", "planned"]
    for what in ("metrics", "attempts", "videos"):
        ask("export", "--what", what)
    ask("export", "--format", "parquet", "--to", "trials.parquet")
    assert not (tmp_path / "outputs").exists()


def test_one_trial(ask, ledger):
    assert "trial 2: given up" in ask("log", 2)
    assert json.loads(ask("show", 1, "--json"))["result"]["metrics"]["AP"] == 42.0


def test_steering(ask, ledger):
    ask("stop", "--no-wait")
    assert ledger.view.is_stopping([NK])
    ask("resume")
    assert not ledger.view.is_stopping([NK])
    assert "1 trial planned again" in ask("retry", "nk")
    assert "0 bytes" in ask("gc")


COMMANDS = ("plan", "run", "status", "stop", "resume", "retry", "log", "show", "rerun", "export", "gc")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_variable_and_not_its_value(ask, command):
    output = ask(command, "--help")
    assert "SYNCVIS_STORAGE" in output
    assert "127.0.0.1" not in output


def test_changed_data(ledger):
    finish(ledger, data_fingerprint="a-b")
    alter(ledger, "UPDATE cells SET state = 'planned' WHERE state = 'gave_up'")
    finish(ledger, data_fingerprint="a-c")
    assert len(changed_data(ledger.view, [NK])) == 1


def test_a_server_that_is_away_is_waited_for_some_seconds_only(sweep, monkeypatch):
    monkeypatch.setattr(options, "PATIENCE_SECONDS", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        url = f"postgresql://me:canary@127.0.0.1:{port}/sweeps"
        started = time.monotonic()
        with pytest.raises(StorageError) as error:
            sweep("status", "--storage", url)
    assert time.monotonic() - started < 5
    assert "canary" not in str(error.value)
    assert f"postgresql+psycopg://me:***@127.0.0.1:{port}/sweeps: " in str(error.value)
