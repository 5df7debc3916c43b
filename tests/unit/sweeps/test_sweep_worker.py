"""What a trial's process does with a claim, in this process; real processes are in tests/integration."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sweeps.identity import this_process
from sweeps.rerun import load_record
from sweeps.trial import CodeError, Order, carry_out, check_run, load_run
from syncvis.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MissingDependencyError,
    NonFiniteLossError,
    StorageError,
)
from syncvis.execution import PLAIN, Execution

RESULT = {"metrics": {"AP": 1.0}}


def go_on() -> bool:
    return False


def claim_of(ledger, lease=60.0):
    return ledger.claim("somebody", lease)


def the(ledger):
    return ledger.view.cell(1)


def test_a_trial_runs_the_config_and_its_rows_are_in_the_ledger(ledger, plan_values, add, tmp_path):
    (cell,) = plan_values([5])
    add(ledger, [cell], tmp_path / "runs")

    def run(config, out, stop, on_row):
        assert (config, out) == (cell.config, tmp_path / "runs" / cell.hash)
        assert not stop()
        assert the(ledger)["worker"] == this_process()
        on_row(0, {"step": 1, "loss": 2.0})
        on_row(1, {"step": 2, "eval/AP": 3.0})
        assert list(ledger.view.metrics(cell.hash)) == [0, 1]  # an evaluation never waits
        on_row(2, {"step": 3, "loss": 1.0})
        return RESULT

    carry_out(ledger, claim_of(ledger), run, go_on)
    assert ledger.view.results() == {cell.hash: RESULT}
    assert [row["step"] for row in ledger.view.metrics(cell.hash).values()] == [1, 2, 3]


def test_rows_reach_the_ledger_within_a_second_or_so(ledger, plan_values, add):
    add(ledger, plan_values([5]))

    def run(config, out, stop, on_row):
        on_row(0, {"step": 1, "loss": 2.0})
        deadline = time.monotonic() + 5
        while not ledger.view.metrics(config.cell_hash):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return RESULT

    carry_out(ledger, claim_of(ledger), run, go_on)
    assert the(ledger)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "final", "reason"),
    [
        (RuntimeError("out of\nmemory"), False, "RuntimeError: out of memory"),
        (MemoryError("no memory"), False, "MemoryError: no memory"),
        (OSError("Input/output error"), False, "OSError: Input/output error"),
        (TimeoutError("the server is slow"), False, "TimeoutError: the server is slow"),
        (StorageError("is away", file="x.db"), False, "x.db: is away"),
        (AttributeError("'Sync' has no 'query'"), True, "AttributeError: 'Sync' has no 'query'"),
        (TypeError("takes 2 arguments"), True, "TypeError: takes 2 arguments"),
        (UnboundLocalError("x"), True, "UnboundLocalError: x"),
        (ModuleNotFoundError("No module named 'x'"), True, "ModuleNotFoundError: No module named 'x'"),
        (KeyError("masks"), True, "KeyError: 'masks'"),
        (IndexError("out of range"), True, "IndexError: out of range"),
        (AssertionError("shape"), True, "AssertionError: shape"),
        (NotImplementedError("no"), True, "NotImplementedError: no"),
        (ZeroDivisionError("division by zero"), True, "ZeroDivisionError: division by zero"),
        (ValueError("too many values"), True, "ValueError: too many values"),
        (SyntaxError("invalid syntax"), True, "SyntaxError: invalid syntax"),
        (MissingDependencyError("x is missing", fix="pip"), True, "x is missing. Fix: pip"),
        (DataError("no videos", file="train.json"), True, "train.json: no videos"),
        (NonFiniteLossError("loss is nan", key="step 7"), True, "step 7: loss is nan"),
        (ConfigError("wrong"), True, "wrong"),
    ],
)
def test_a_failure_keeps_its_reason_and_traceback(ledger, plan_values, add, tmp_path, error, final, reason):
    (cell,) = plan_values([2])
    add(ledger, [cell], tmp_path / "runs")

    def run(config, out, stop, on_row):
        raise error

    carry_out(ledger, claim_of(ledger), run, go_on)
    assert (the(ledger)["state"], the(ledger)["error"]) == ("gave_up" if final else "planned", reason)
    assert "Traceback" in (tmp_path / "runs" / cell.hash / "error.log").read_text()


def test_a_stopped_trial_gives_its_cell_back(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    stopped = threading.Event()

    def run(config, out, stop, on_row):
        stopped.set()
        assert stop()
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        carry_out(ledger, claim_of(ledger), run, stopped.is_set)
    assert the(ledger)["state"] == "planned"


def test_a_trial_that_is_not_worth_finishing_is_pruned(ledger, plan_values, add):
    add(ledger, plan_values([2]))

    def run(config, out, stop, on_row):
        on_row(0, {"step": 1, "loss": 1.0})
        assert not stop()
        on_row(1, {"step": 1, "eval/AP": 0.1})
        assert stop()
        raise Interrupted("stopped")

    carry_out(ledger, claim_of(ledger), run, go_on, lambda claim: f"AP 0.1, trial {claim.number}")
    assert (the(ledger)["state"], the(ledger)["error"]) == ("pruned", "AP 0.1, trial 1")


def test_a_cell_taken_over_before_the_first_beat_is_not_run(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    claim = claim_of(ledger, -1)
    ledger.reap()
    carry_out(ledger, claim, None, go_on)
    assert the(ledger)["state"] == "planned"


def test_a_frozen_trial_is_fenced(ledger, plan_values, add, monkeypatch):
    add(ledger, plan_values([2]))

    def run(config, out, stop, on_row):
        while (other := ledger.claim("somebody else", 60)) is None:
            time.sleep(0.01)
        ledger.finish(other, {"metrics": {"AP": 9.0}})
        return {"metrics": {"AP": -1.0}}

    monkeypatch.setattr(ledger, "beat", lambda claim, worker: True)
    carry_out(ledger, claim_of(ledger, 0.2), run, go_on)
    assert list(ledger.view.results().values()) == [{"metrics": {"AP": 9.0}}]


def test_a_lost_lease_becomes_a_stop_signal(ledger, plan_values, add, tmp_path):
    add(ledger, plan_values([2]))

    def run(config, out, stop, on_row):
        with sqlite3.connect(tmp_path / "ledger.db") as database:  # somebody takes the cell away
            database.execute("update cells set state = 'planned'")
        database.close()
        deadline = time.monotonic() + 5
        while not stop():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise Interrupted("stopped")

    carry_out(ledger, claim_of(ledger, 0.2), run, go_on)
    assert the(ledger)["state"] == "planned"


@pytest.mark.parametrize("name", ["no.such.module:run", "json:run", "json"])
def test_an_unknown_run_function_is_a_config_error(name):
    with pytest.raises(ConfigError, match="module:function"):
        load_run(name, PLAIN)


def test_a_module_at_fault_is_no_unknown_one(tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text("from json import no_such_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CodeError, match="faulty: cannot be imported: ImportError: cannot import name 'no_such_name'"):
        load_run("faulty:run", PLAIN)


@pytest.mark.parametrize("name", ["no.such.module:run", "json", ":run"])
def test_an_unknown_module_is_noticed_without_importing_it(name):
    with pytest.raises(ConfigError, match="module:function"):
        check_run(name)


@pytest.fixture
def of_an_earlier_version(ledger, plan_values, add, tmp_path):
    """A cell as versions wrote it whose sub-clips had no step: its config, and the hash of that."""
    (cell,) = plan_values([5])
    tree = cell.config.model_dump(mode="json")
    del tree["subclips"]["step"]
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    written = SimpleNamespace(canonical=lambda: text, variant_hash=cell.config.variant_hash)
    old = hashlib.sha256(text.encode()).hexdigest()[:16]
    add(ledger, [replace(cell, hash=old, config=written)], tmp_path / "runs")
    return cell


def test_a_cell_of_an_earlier_version_is_not_run_as_another_one(ledger, of_an_earlier_version):
    carry_out(ledger, claim_of(ledger), lambda *_: pytest.fail("it ran"), go_on)
    row = the(ledger)
    assert row["state"] == "gave_up"
    assert f"trial 1: is another run ({of_an_earlier_version.hash}) in this version" in row["error"]
    assert "plan the experiment again" in row["error"]


def test_the_record_of_an_earlier_version_still_opens(ledger, of_an_earlier_version):
    claim = claim_of(ledger)
    ledger.finish(claim, {**RESULT, "cell_hash": claim.cell_hash})
    record = load_record(ledger.view, ledger.view.cell(1))
    assert record.config == of_an_earlier_version.config
    assert record.result["cell_hash"] == claim.cell_hash != record.config.cell_hash


@pytest.mark.parametrize(("processes", "sharing", "expected"), [(1, 1, 8), (1, 4, 3), (4, 1, 3), (2, 4, 1)])
def test_the_trials_of_a_machine_share_its_cores(ledger, plan_values, add, monkeypatch, processes, sharing, expected):
    add(ledger, plan_values([2]))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    order = Order("ledger.db", claim_of(ledger), "run", Execution("cuda"), processes, sharing)
    assert order.resolved == Execution("cuda", loader_workers=expected)
