"""The protocol of claims, on every storage."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from sweeps.database import sources
from sweeps.identity import died_here, kill_here, this_process
from sweeps.leases import SILENCE_SECONDS
from sweeps.ledger import MAX_DEATHS, MAX_LOSSES, Fenced, Ledger
from sweeps.sources import as_row, sources_of
from sweeps.view import StudyKey
from syncvis.errors import ConfigError, StorageError
from syncvis.source import Source

RESULT = {"metrics": {"AP": 1.0}}
NK = StudyKey("nk", "smoke")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, tmp_path):
    if request.param == "sqlite":
        return Ledger(tmp_path / "ledger.db")
    return Ledger(request.getfixturevalue("postgres").database(f"t{abs(hash(request.node.name))}"))


def worker(number: int = 0) -> str:
    """A process of which nobody can tell whether it lives."""
    return f"{socket.gethostname()}:boot:{number}:0"


def worker_elsewhere() -> str:
    """One of another machine."""
    return "another-host:boot:1:1"


def the(ledger, number: int = 1):
    return ledger.view.cell(number)


def test_cells_are_claimed_in_plan_order_and_finished_once(ledger, plan_values, add, tmp_path):
    cells = plan_values([5, 2, 10])
    add(ledger, cells, tmp_path / "runs")
    claims = [ledger.claim(worker(n), 60) for n in range(3)]
    assert [claim.cell_hash for claim in claims] == [cell.hash for cell in cells]
    assert [claim.number for claim in claims] == [1, 2, 3]
    assert claims[0].run_dir == tmp_path / "runs" / cells[0].hash
    assert claims[0].config == cells[0].config.canonical()
    assert ledger.claim(worker(4), 60) is None
    ledger.finish(claims[1], RESULT)
    ledger.finish(claims[1], {"metrics": {"AP": 2.0}})
    assert ledger.view.results() == {cells[1].hash: RESULT}
    assert ledger.view.counts() == {"planned": 0, "running": 2, "done": 1, "pruned": 0, "gave_up": 0}
    assert not ledger.view.is_over()


def test_claims_stay_in_the_asked_studies(ledger, plan_values, add):
    add(ledger, plan_values([5]) + plan_values([2], name="other"))
    other = StudyKey("other", "smoke")
    assert ledger.claim(worker(1), 60, [other]).number == 2
    assert ledger.claim(worker(2), 60, [other]) is None
    assert ledger.view.counts([other])["running"] == 1
    assert ledger.view.counts([NK])["planned"] == 1


def test_a_source_is_stored_once_for_all_attempts_that_ran_it(ledger, plan_values, add):
    add(ledger, plan_values([5, 2]))
    dirty = Source("c0ffee", "a" * 16, ("syncvis/a.py",), b"\0patch", ("big.bin: binary",))
    first, second = (ledger.claim(worker(n), 60) for n in range(2))
    for claim in (first, second, first):  # again, as after a lost answer
        ledger.keep_source(claim, as_row(dirty))
    ledger.fail(first, "boom")
    again = ledger.claim(worker(3), 60)
    ledger.keep_source(again, as_row(Source("c0ffee", "b" * 16)))
    assert len(ledger.view.read(sa.select(sources.c.digest))) == 2
    assert sources_of(ledger.view, second.cell_hash) == {1: dirty}
    assert sources_of(ledger.view, first.cell_hash) == {1: dirty, 2: Source("c0ffee", "b" * 16)}


def test_two_threads_never_get_the_same_cell(ledger, plan_values, add):
    add(ledger, plan_values(list(range(1, 31))))
    claims = []

    def take(thread):
        while claim := ledger.claim(worker(1000 * thread + len(claims)), 60):
            claims.append(claim.number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == list(range(1, 31))


def test_a_claim_whose_answer_was_lost_is_given_again(ledger, plan_values, add):
    add(ledger, plan_values([5, 2]))
    unheard = ledger.claim(worker(), 60)
    again = ledger.claim(worker(), 60)
    assert (again.number, again.attempt) == (unheard.number, unheard.attempt + 1)
    assert ledger.view.counts()["running"] == 1
    first, second = ledger.view.attempts()
    assert (first["outcome"], first["ended"]) == ("released", second["started"])
    assert second["outcome"] is second["ended"] is None


def test_an_added_plan_replaces_the_old_one_and_keeps_results(ledger, plan_values, add):
    old = plan_values([2, 10])
    add(ledger, old)
    for n in range(2):
        ledger.finish(ledger.claim(worker(n), 60), RESULT)
    add(ledger, plan_values([1, 10]))
    rows = ledger.view.rows()
    assert [(row["axes"], row["state"]) for row in rows] == [({"Nk": 1}, "planned"), ({"Nk": 10}, "done")]
    assert [row["number"] for row in rows] == [3, 2]
    assert set(ledger.view.results()) == {cell.hash for cell in old}


def test_a_cell_of_two_experiments_is_trained_once(ledger, plan_values, add):
    cells = plan_values([2, 10]) + plan_values([10], name="other")
    add(ledger, cells)
    add(ledger, cells)
    assert len(ledger.view.rows()) == 3
    assert len(ledger.view.cells()) == 2


def test_a_cell_is_appended_only_where_it_was_meant(ledger, plan_values, add, tmp_path):
    first, second, third = plan_values([2, 5, 10])
    add(ledger, [first])
    assert ledger.append(NK, second)
    assert not ledger.append(NK, second)
    assert ledger.append(NK, third)
    assert [row["position"] for row in ledger.view.rows([NK])] == [0, 1, 2]
    assert the(ledger, 3)["run_dir"] == str(tmp_path / "runs" / third.hash)


def test_an_expired_lease_is_taken_over_and_the_old_owner_is_fenced(ledger, plan_values, add):
    ledger._database.has_just_started = lambda connection: False
    add(ledger, plan_values([2]))
    frozen = ledger.claim(worker(1), -1)
    assert ledger.record(frozen, {0: "{}"})
    taken = ledger.claim(worker(2), 60)
    assert taken.attempt == frozen.attempt + 1
    assert not ledger.beat(frozen, worker(1))
    assert not ledger.record(frozen, {1: "{}"})
    with pytest.raises(Fenced):
        ledger.finish(frozen, RESULT)
    for late in (ledger.release, lambda claim: ledger.fail(claim, "late"), lambda claim: ledger.died(claim, "late")):
        late(frozen)
    ledger.prune(frozen, "late")
    assert ledger.beat(taken, worker(2))
    ledger.finish(taken, {"metrics": {"AP": 3.0}})
    assert ledger.view.results()[taken.cell_hash]["metrics"]["AP"] == 3.0
    assert list(ledger.view.metrics(taken.cell_hash)) == [0]
    outcomes = [(row["attempt"], row["outcome"]) for row in ledger.view.attempts(number=1)]
    assert outcomes == [(1, "died"), (2, "done")]


@pytest.mark.parametrize("ahead", [-1e6, 1e6])
def test_a_lease_on_the_clock_of_another_machine_ends_when_it_is_not_renewed(tmp_path, plan_values, add, ahead):
    ledger, seconds = Ledger(tmp_path / "ledger.db"), 0.0
    ledger._database.lease_clock = lambda connection: seconds
    add(ledger, plan_values([2]))
    seconds = ahead
    claim = ledger.claim(worker_elsewhere(), 60)
    seconds = 0.0
    for _ in range(3):  # it lives
        seconds += 0.9 * SILENCE_SECONDS
        assert ledger.claim(worker(), 60) is None
        seconds += ahead
        assert ledger.beat(claim, worker_elsewhere())
        seconds -= ahead
    seconds += 0.9 * SILENCE_SECONDS
    assert ledger.claim(worker(), 60) is None
    seconds += 1.1 * SILENCE_SECONDS
    assert Ledger(tmp_path / "ledger.db").claim(worker(), 60) is None  # a process that has just come
    assert ledger.claim(worker(), 60).attempt == claim.attempt + 1
    assert not ledger.beat(claim, worker_elsewhere())


def test_leases_are_let_be_just_after_a_server_has_come_back(ledger, plan_values, add):
    ledger._database.has_just_started = lambda connection: True
    add(ledger, plan_values([2]))
    claim = ledger.claim(worker(), -1)
    ledger.reap()
    assert ledger.beat(claim, worker())


def test_a_beat_keeps_the_lease_in_the_name_of_the_beating_process(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    claim = ledger.claim(worker(1), 30)
    before = the(ledger)["lease_until"]
    assert ledger.beat(claim, worker(2))
    assert the(ledger)["lease_until"] > before
    assert the(ledger)["worker"] == worker(2)
    assert ledger.claim(worker(3), 30) is None


def test_rows_of_a_resumed_run_replace_those_of_its_first_try(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    first = ledger.claim(worker(), 60)
    ledger.record(first, {0: '{"step": 1}', 1: '{"step": 2, "try": 1}', 2: '{"step": 3, "try": 1}'})
    ledger.release(first)
    second = ledger.claim(worker(), 60)
    ledger.record(second, {1: '{"step": 2, "try": 2}'})
    assert [row.get("try") for row in ledger.view.metrics(first.cell_hash).values()] == [None, 2, 1]
    assert ledger.view.metrics(first.cell_hash, after=1) == {2: {"step": 3, "try": 1}}
    assert [row["step"] for row in ledger.view.last_metrics(first.cell_hash, 2)] == [2, 3]


def test_a_dead_local_process_is_noticed_before_its_lease_ends(ledger, plan_values, add):
    code = "from sweeps.identity import this_process; print(this_process())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    add(ledger, plan_values([2]))
    ledger.claim(dead, 3600)
    assert ledger.claim(worker(), 60) is not None


def test_a_local_trial_that_let_its_lease_end_is_killed(ledger, plan_values, add):
    ledger._database.has_just_started = lambda connection: False
    code = "from sweeps.identity import this_process; print(this_process(), flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as frozen:
        add(ledger, plan_values([2]))
        me = frozen.stdout.readline().strip()
        ledger.claim(me, -1)
        ledger.reap()
        assert frozen.poll() is None  # a worker whose trial has not begun
        ledger.beat(ledger.claim(worker(), -1), me)
        assert ledger.claim(worker(), 60).attempt == 3
        assert frozen.wait(5) == -9


def test_only_provably_dead_processes_count_as_dead():
    host, boot, pid, started = this_process().rsplit(":", 3)
    assert pid == str(os.getpid())
    assert not died_here(this_process())
    assert died_here(f"{host}:{boot}:{pid}:{int(started) + 1}")
    assert died_here(f"{host}:before:{pid}:{started}")
    assert not died_here(f"another-host:{boot}:{pid}:{int(started) + 1}")
    assert not died_here("gibberish")
    kill_here(this_process())
    kill_here("gibberish")


def test_a_failing_cell_is_given_up_after_three_failures(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    for failure in range(3):
        assert the(ledger)["state"] == "planned"
        ledger.fail(ledger.claim(worker(), 60), f"boom {failure}")
    row = the(ledger)
    assert (row["state"], row["error"], row["attempt"]) == ("gave_up", "boom 2", 3)
    assert [row["error"] for row in ledger.view.attempts(number=1)] == ["boom 0", "boom 1", "boom 2"]
    assert ledger.claim(worker(), 60) is None
    assert ledger.view.is_over()
    assert ledger.retry(numbers=[2]) == 0
    assert ledger.retry([NK]) == 1
    assert ledger.claim(worker(), 60).attempt == 4


def test_a_cell_that_kills_its_processes_is_given_up(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    for _ in range(MAX_DEATHS):
        ledger.died(ledger.claim(worker(), 60), "signal 9")
    assert (the(ledger)["state"], the(ledger)["failures"], the(ledger)["error"]) == ("gave_up", 0, "signal 9")


def test_lost_workers_are_held_against_a_cell_only_in_the_end(ledger, plan_values, add):
    ledger._database.has_just_started = lambda connection: False
    add(ledger, plan_values([2]))
    for n in range(MAX_LOSSES):
        assert the(ledger)["state"] == "planned"
        ledger.claim(worker(n), -1)
        ledger.reap()
    assert (the(ledger)["state"], the(ledger)["losses"]) == ("gave_up", MAX_LOSSES)


def test_a_final_error_gives_up_at_once_and_a_release_is_no_failure(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    for _ in range(5):
        ledger.release(ledger.claim(worker(), 60))
    assert the(ledger)["failures"] == 0
    ledger.fail(ledger.claim(worker(), 60), "NaN", final=True)
    assert the(ledger)["state"] == "gave_up"


def test_a_pruned_cell_has_no_result_and_is_over(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    ledger.prune(ledger.claim(worker(), 60), "AP 3.0 at step 10")
    assert (the(ledger)["state"], the(ledger)["error"]) == ("pruned", "AP 3.0 at step 10")
    assert ledger.view.is_over()
    assert ledger.view.results() == {}


def test_a_stopped_study_hands_out_nothing_until_it_goes_on(ledger, plan_values, add):
    add(ledger, plan_values([2]))
    ledger.stop([NK])
    assert ledger.view.is_stopping([NK])
    assert ledger.claim(worker(), 60) is None
    ledger.stop([NK], False)
    assert not ledger.view.is_stopping()
    assert ledger.claim(worker(), 60) is not None


def test_definitions_come_back_as_they_went_in(ledger, plan_values):
    ledger.add(NK, {"axes": {"Nk": [2]}}, plan_values([2]), "runs")
    (stored,) = ledger.view.studies().values()
    assert (stored.key.name, stored.definition, stored.size) == ("nk-smoke", {"axes": {"Nk": [2]}}, 1)
    assert json.loads(json.dumps(stored.definition)) == stored.definition


def test_a_study_name_says_experiment_and_scale():
    assert StudyKey.parse("two-words-small") == StudyKey("two-words", "small")
    with pytest.raises(ConfigError, match="EXPERIMENT-SCALE"):
        StudyKey.parse("nk")


@pytest.mark.parametrize("content", [b"not a database, not at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_refused_by_name(tmp_path, content):
    file = tmp_path / "ledger.db"
    file.write_bytes(content)
    with pytest.raises(StorageError, match=r"ledger\.db"):
        Ledger(file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("keep", [0, None])
def test_a_ledger_that_lost_its_results_is_refused(tmp_path, plan_values, add, keep):
    file = tmp_path / "ledger.db"
    ledger = Ledger(file)
    add(ledger, plan_values([2]))
    ledger.finish(ledger.claim(worker(), 60), RESULT)
    for part in tmp_path.glob("ledger.db*"):
        if part.suffix != ".marker":
            part.unlink()
    if keep == 0:
        file.touch()
    with pytest.raises(StorageError, match=r"ledger\.db.*held results.*delete .*ledger\.db\.marker"):
        Ledger(file)


def test_a_truncated_ledger_is_refused(tmp_path, plan_values, add):
    file = tmp_path / "ledger.db"
    add(Ledger(file), plan_values([2]))
    whole = file.read_bytes() or (tmp_path / "ledger.db-wal").read_bytes()
    for part in tmp_path.glob("ledger.db-*"):
        part.unlink()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=r"ledger\.db"):
        Ledger(file).view.rows()


def test_a_ledger_of_another_version_is_refused(ledger):
    ledger._database.run(lambda connection: connection.exec_driver_sql("UPDATE about SET schema_version = 99"))
    with pytest.raises(StorageError, match="another version"):
        Ledger(ledger._database.engine.url.render_as_string(hide_password=False))


@pytest.mark.parametrize("url", ["nosuchdb://me:canary@host/ledger", "mysql://me:canary@host/ledger"])
def test_a_wrong_url_is_an_error_without_its_password(url):
    with pytest.raises(StorageError, match="host/ledger") as error:
        Ledger(url)
    assert "canary" not in str(error.value)
