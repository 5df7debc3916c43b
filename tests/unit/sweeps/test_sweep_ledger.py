from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sweeps.identity import died_here, this_worker
from sweeps.ledger import MAX_DEATHS, Fenced, Ledger
from syncvis.errors import StorageError

RESULT = {"metrics": {"AP": 1.0}}


def test_cells_are_claimed_in_plan_order_and_finished_once(ledger, plan_values, tmp_path):
    cells = plan_values([5, 2, 10])
    ledger.add(cells, tmp_path / "runs")
    claims = [ledger.claim(this_worker(), 60) for _ in range(3)]
    assert [claim.cell_hash for claim in claims] == [cell.hash for cell in cells]
    assert claims[0].run_dir == tmp_path / "runs" / cells[0].hash
    assert claims[0].config == cells[0].config.canonical()
    assert ledger.claim(this_worker(), 60) is None
    ledger.finish(claims[1], RESULT)
    ledger.finish(claims[1], {"metrics": {"AP": 2.0}})
    assert ledger.results() == {cells[1].hash: RESULT}
    assert ledger.status("nk", "smoke") == {"planned": 0, "running": 2, "done": 1, "gave_up": 0}


def test_claims_stay_among_the_asked_cells(ledger, plan_values, tmp_path):
    cells = plan_values([5, 2])
    ledger.add(cells, tmp_path)
    assert ledger.claim(this_worker(), 60, [cells[1].hash]).cell_hash == cells[1].hash
    assert ledger.claim(this_worker(), 60, [cells[1].hash]) is None


def test_an_added_plan_replaces_the_old_one_and_keeps_results(ledger, plan_values, tmp_path):
    old = plan_values([2, 10])
    ledger.add(old, tmp_path)
    ledger.finish(ledger.claim(this_worker(), 60), RESULT)
    ledger.finish(ledger.claim(this_worker(), 60), RESULT)
    new = plan_values([1, 10])
    ledger.add(new, tmp_path)
    rows = ledger.rows()
    assert [(row["axes"], row["state"]) for row in rows] == [({"Nk": 1}, "planned"), ({"Nk": 10}, "done")]
    assert set(ledger.results()) == {cell.hash for cell in old}


def test_a_cell_of_two_experiments_is_trained_once(ledger, plan_values, tmp_path):
    cells = plan_values([2, 10]) + plan_values([10], name="other")
    ledger.add(cells, tmp_path)
    ledger.add(cells, tmp_path)
    assert len(ledger.rows()) == 3
    assert len(ledger.states()) == 2


def test_an_expired_lease_is_taken_over_and_the_old_owner_is_fenced(ledger, plan_values, tmp_path):
    ledger.add(plan_values([2]), tmp_path)
    frozen = ledger.claim(this_worker(), -1)
    taken = ledger.claim("elsewhere:1:1", 60)
    assert taken.attempt == frozen.attempt + 1
    assert not ledger.beat(frozen)
    with pytest.raises(Fenced):
        ledger.finish(frozen, RESULT)
    ledger.release(frozen)
    ledger.fail(frozen, "late")
    assert ledger.beat(taken)
    ledger.finish(taken, {"metrics": {"AP": 3.0}})
    assert ledger.results()[taken.cell_hash]["metrics"]["AP"] == 3.0


def test_a_beat_keeps_the_lease(ledger, plan_values, tmp_path):
    ledger.add(plan_values([2]), tmp_path)
    claim = ledger.claim("elsewhere:1:1", 30)
    before = ledger.states()[claim.cell_hash]["lease_until"]
    assert ledger.beat(claim)
    assert ledger.states()[claim.cell_hash]["lease_until"] > before
    assert ledger.claim(this_worker(), 30) is None


def test_a_dead_local_worker_is_noticed_before_its_lease_ends(ledger, plan_values, tmp_path):
    code = "from sweeps.identity import this_worker; print(this_worker())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    ledger.add(plan_values([2]), tmp_path)
    ledger.claim(dead, 3600)
    assert ledger.claim(this_worker(), 60) is not None


def test_only_provably_dead_workers_count_as_dead():
    host, pid, started = this_worker().rsplit(":", 2)
    assert pid == str(os.getpid())
    assert not died_here(this_worker())
    assert died_here(f"{host}:{pid}:{int(started) + 1}")
    assert not died_here(f"another-host:{pid}:{int(started) + 1}")


def test_a_failing_cell_is_given_up_after_three_failures(ledger, plan_values, tmp_path):
    (cell,) = plan_values([2])
    ledger.add([cell], tmp_path)
    for failure in range(3):
        assert ledger.states()[cell.hash]["state"] == "planned"
        ledger.fail(ledger.claim(this_worker(), 60), f"boom {failure}")
    row = ledger.states()[cell.hash]
    assert (row["state"], row["error"], row["attempt"]) == ("gave_up", "boom 2", 3)
    assert ledger.claim(this_worker(), 60) is None
    assert ledger.retry([cell.hash]) == 1
    assert ledger.claim(this_worker(), 60).attempt == 4


def test_a_cell_that_kills_its_workers_is_given_up(ledger, plan_values, tmp_path):
    (cell,) = plan_values([2])
    ledger.add([cell], tmp_path)
    for _ in range(MAX_DEATHS):
        assert ledger.claim("elsewhere:1:1", -1) is not None
    ledger.reap()
    row = ledger.states()[cell.hash]
    assert (row["state"], row["failures"]) == ("gave_up", 0)
    assert "elsewhere:1:1 died" in row["error"]


def test_a_final_error_gives_up_at_once_and_a_release_is_no_failure(ledger, plan_values, tmp_path):
    (cell,) = plan_values([2])
    ledger.add([cell], tmp_path)
    for _ in range(5):
        ledger.release(ledger.claim(this_worker(), 60))
    assert ledger.states()[cell.hash]["failures"] == 0
    ledger.fail(ledger.claim(this_worker(), 60), "NaN", final=True)
    assert ledger.states()[cell.hash]["state"] == "gave_up"


@pytest.mark.parametrize("content", [b"not a database, not at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_refused_by_name(tmp_path, content):
    file = tmp_path / "ledger.db"
    file.write_bytes(content)
    with pytest.raises(StorageError, match=r"ledger\.db"):
        Ledger(file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("keep", [0, None])
def test_a_ledger_that_lost_its_results_is_refused(tmp_path, plan_values, keep):
    file = tmp_path / "ledger.db"
    ledger = Ledger(file)
    ledger.add(plan_values([2]), tmp_path)
    ledger.finish(ledger.claim(this_worker(), 60), RESULT)
    for part in tmp_path.glob("ledger.db*"):
        if part.suffix != ".marker":
            part.unlink()
    if keep == 0:
        file.touch()
    with pytest.raises(StorageError, match=r"ledger\.db.*held results.*delete .*ledger\.db\.marker"):
        Ledger(file)


def test_a_truncated_ledger_is_refused(tmp_path, plan_values):
    file = tmp_path / "ledger.db"
    Ledger(file).add(plan_values([2]), tmp_path)
    whole = file.read_bytes() or (tmp_path / "ledger.db-wal").read_bytes()
    for part in tmp_path.glob("ledger.db-*"):
        part.unlink()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=r"ledger\.db"):
        Ledger(file).rows()


def test_a_wrong_url_is_an_error_without_its_password():
    with pytest.raises(StorageError, match="nosuchdb"):
        Ledger("nosuchdb://host/ledger")
