from __future__ import annotations

import sqlite3
import threading
import time

import pytest

from sweeps.worker import Worker, load_run
from syncvis.errors import ConfigError, DataError, Interrupted, NonFiniteLossError

RESULT = {"metrics": {"AP": 1.0}}


def test_a_worker_runs_every_cell_with_its_config(ledger, plan_values, tmp_path):
    cells = plan_values([2, 5, 10])
    ledger.add(cells, tmp_path / "runs")
    seen = []

    def run(config, out, stop):
        seen.append((config, out))
        return {"metrics": {"AP": float(config.sync.num_selected)}}

    Worker(ledger, run, lambda: False).work()
    assert seen == [(cell.config, tmp_path / "runs" / cell.hash) for cell in cells]
    assert {h: result["metrics"]["AP"] for h, result in ledger.results().items()} == {
        cell.hash: float(cell.axes["Nk"]) for cell in cells
    }
    assert ledger.status("nk", "smoke")["done"] == 3


@pytest.mark.parametrize(
    ("error", "tries", "reason"),
    [
        (RuntimeError("out of\nmemory"), 3, "RuntimeError: out of memory"),
        (DataError("no videos", file="train.json"), 1, "train.json: no videos"),
        (NonFiniteLossError("loss is nan", key="step 7"), 1, "step 7: loss is nan"),
        (ConfigError("wrong"), 1, "wrong"),
    ],
)
def test_a_failing_cell_does_not_stop_the_others(ledger, plan_values, tmp_path, error, tries, reason):
    bad, good = plan_values([2, 10])
    ledger.add([bad, good], tmp_path / "runs")
    started = []

    def run(config, out, stop):
        started.append(config.cell_hash)
        if config.cell_hash == bad.hash:
            raise error
        return RESULT

    Worker(ledger, run, lambda: False).work()
    assert started.count(bad.hash) == tries
    assert set(ledger.results()) == {good.hash}
    row = ledger.states()[bad.hash]
    assert (row["state"], row["error"]) == ("gave_up", reason)
    assert "Traceback" in (tmp_path / "runs" / bad.hash / "error.log").read_text()


def test_a_stopped_worker_gives_its_cell_back(ledger, plan_values, tmp_path):
    ledger.add(plan_values([2, 10]), tmp_path)
    stopped = threading.Event()

    def run(config, out, stop):
        stopped.set()
        assert stop()
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        Worker(ledger, run, stopped.is_set).work()
    assert ledger.status("nk", "smoke") == {"planned": 2, "running": 0, "done": 0, "gave_up": 0}
    Worker(ledger, lambda *_: RESULT, lambda: False).work()
    assert ledger.status("nk", "smoke")["done"] == 2


def test_a_frozen_worker_is_fenced_and_takes_the_next_cell(ledger, plan_values, tmp_path, monkeypatch):
    first, second = plan_values([2, 10])
    ledger.add([first, second], tmp_path)

    def run(config, out, stop):
        if config.cell_hash == second.hash:
            return RESULT
        while (other := ledger.claim("elsewhere:1:1", 60, [first.hash])) is None:
            time.sleep(0.01)
        ledger.finish(other, {"metrics": {"AP": 9.0}})
        return {"metrics": {"AP": -1.0}}

    monkeypatch.setattr(ledger, "beat", lambda claim: True)
    Worker(ledger, run, lambda: False, lease_seconds=0.2, poll_seconds=0.01).work()
    assert ledger.results() == {first.hash: {"metrics": {"AP": 9.0}}, second.hash: RESULT}


def test_a_lost_lease_becomes_a_stop_signal(ledger, plan_values, tmp_path):
    ledger.add(plan_values([2]), tmp_path)
    attempts = []

    def run(config, out, stop):
        attempts.append(1)
        if len(attempts) > 1:
            return RESULT
        with sqlite3.connect(tmp_path / "ledger.db") as database:  # somebody takes the cell away
            database.execute("update cells set state = 'planned'")
        database.close()
        deadline = time.monotonic() + 5
        while not stop():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise Interrupted("stopped")

    Worker(ledger, run, lambda: False, lease_seconds=0.2, poll_seconds=0.01).work()
    assert len(attempts) == 2
    assert len(ledger.results()) == 1


def test_a_worker_waits_for_cells_that_others_run(ledger, plan_values, tmp_path):
    ledger.add(plan_values([2]), tmp_path)
    ledger.claim("elsewhere:1:1", 0.3)
    Worker(ledger, lambda *_: RESULT, lambda: False, poll_seconds=0.02).work()
    assert len(ledger.results()) == 1


@pytest.mark.parametrize("name", ["no.such.module:run", "json:run", "json"])
def test_an_unknown_run_function_is_a_config_error(name):
    with pytest.raises(ConfigError, match="module:function"):
        load_run(name, "cpu")
