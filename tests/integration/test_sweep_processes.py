"""Sweeps with real processes and a run function that trains nothing: kills, freezes, interruption, mirrors."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from sweeping import NK, PATH, ends

from sweeps.enrolment import enrol
from sweeps.identity import died_here
from sweeps.space import MedianSettings, Search
from sweeps.tracking.notes import number_waiting
from sweeps.view import StudyKey
from syncvis.errors import ConfigError


@pytest.mark.parametrize("place", [(20, 2)], indirect=True)
def test_four_workers_run_each_of_forty_cells_once(place):
    place.add()
    for worker in [place.worker() for _ in range(4)]:
        ends(worker)
    place.assert_all_done()
    assert place.starts() == Counter(cell.hash for cell in place.cells)


@pytest.mark.parametrize("place", [(10, 2)], indirect=True)
def test_random_kills_lose_and_double_nothing(place):
    place.add()
    place.set("seconds", 0.5)  # long enough for all kills, also when their times come late
    dice, kills = random.Random(0), 0
    workers = [place.worker() for _ in range(3)]
    while any(worker.poll() is None for worker in workers):
        time.sleep(dice.expovariate(3))
        slot = dice.randrange(3)
        if workers[slot].poll() is None and kills < 5:
            workers[slot].kill()
            kills += 1
            workers[slot] = place.worker()
    assert kills == 5
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    place.assert_all_done()
    assert sum(place.starts().values()) <= len(place.cells) + kills


WINDOWS = ["after_claim", "after_first_beat", "mid_run", "before_finish", "in_finish_tx", "after_finish", "in_reaper"]


@pytest.mark.parametrize("point", WINDOWS)
def test_death_in_each_window_loses_and_doubles_nothing(place, point):
    place.add()
    tokens = place.folder / "tokens"
    tokens.mkdir()
    for number in range(3):
        (tokens / str(number)).touch()
    left, workers = 8, []
    while left and not place.view.is_over():
        workers = [worker for worker in workers if worker.poll() is None]
        if not workers:
            workers, left = [place.worker(FAULT_AT=f"{point}:{tokens}") for _ in range(2)], left - 1
        time.sleep(0.02)
    for worker in workers:
        worker.wait(20)
    assert not list(tokens.iterdir())
    place.assert_all_done()
    assert all(row["state"] == "done" for row in place.view.cells())


@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_frozen_trial_is_ended_and_its_cell_run_by_another(place):
    place.add()
    place.set("seconds", 1.5)
    first = place.worker(lease=0.5)
    place.wait_until_running(1)
    os.kill(place.pid_of_trial(1), signal.SIGSTOP)
    ends(first)
    place.assert_all_done()
    assert [row["outcome"] for row in place.view.attempts()] == ["died", "done"]


@pytest.mark.parametrize("place", [(2, 1)], indirect=True)
def test_a_trial_that_hangs_is_ended_at_its_time_limit_and_given_up(place):
    place.set("hang-1", "")
    output = place.sweep(code=5, trial_timeout=1.5, workers=1)
    states = {row["number"]: (row["state"], row["failures"]) for row in place.view.cells()}
    assert states == {1: ("gave_up", 3), 2: ("done", 0)}
    assert "it took longer than 1.5 s, its time limit (--trial-timeout)" in output
    tries = place.view.attempts(number=1)
    assert [row["outcome"] for row in tries] == ["failed"] * 3
    assert all(1.5 <= row["ended"] - row["started"] < 30 for row in tries)


@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_frozen_worker_does_not_matter_to_its_trial(place):
    place.add()
    place.set("seconds", 4.0)
    frozen = place.worker(lease=2)
    place.wait_until_running(1)
    place.pid_of_trial(1)
    frozen.send_signal(signal.SIGSTOP)
    ends(place.worker())
    place.assert_all_done()
    frozen.send_signal(signal.SIGCONT)
    ends(frozen)
    assert [row["outcome"] for row in place.view.attempts()] == ["done"]


def test_a_sweep_mirrors_everything_and_a_second_one_does_nothing(place):
    output = place.sweep(wandb="offline")
    assert "4 of 4 cells done" in output
    assert "[4/4] nk: Nk=" in output
    assert "warning" not in output
    out = place.folder / "outputs"
    assert f"Optuna  nk-smoke: syncvis sweep dashboard --out {out}\n" in output
    curves, upload = f"wandb leet {out}/wandb (curves in the terminal, no account)", f"syncvis sweep sync --out {out}"
    assert f"W&B     {curves}; {upload} uploads them\n" in output
    place.assert_all_done()
    study = optuna.load_study(study_name="nk-smoke", storage=f"sqlite:///{place.folder}/outputs/optuna.db")
    assert {t.user_attrs["cell_hash"] for t in study.get_trials()} == {cell.hash for cell in place.cells}
    runs = list((place.folder / "outputs" / "wandb").glob("offline-run-*"))
    assert len(runs) == 4
    logged = [next(run.glob("*.wandb")).read_bytes() for run in runs]
    assert all(b"nk-smoke" in content and b"num_selected" in content for content in logged)
    assert number_waiting(place.view, place.folder / "outputs" / "wandb", [NK]) == 0

    started = time.monotonic()
    place.sweep(wandb="offline")
    assert time.monotonic() - started < 5
    assert sum(place.starts().values()) == 4
    assert list((place.folder / "outputs" / "wandb").glob("offline-run-*")) == runs
    assert len(study.get_trials()) == 4


@pytest.mark.parametrize("body", ["raise OSError('wandb is broken')", "import time; time.sleep(600)"])
def test_a_broken_or_hanging_wandb_costs_one_warning(place, monkeypatch, body):
    place.set("wandb.py", body)
    monkeypatch.setenv("PYTHONPATH", f"{place.folder}{os.pathsep}{PATH}")
    output = place.sweep(wandb="offline", wandb_seconds=0.5)
    place.assert_all_done()
    assert output.count("warning") == 1
    assert "W&B lacks 4 finished runs" in output


def test_an_interrupted_sweep_goes_on_where_it_stopped(place):
    place.set("seconds", 30)
    sweep = place.start_sweep()
    place.wait_until_running(2)
    sweep.send_signal(signal.SIGINT)
    assert "run the same command again to continue" in ends(sweep, 75)
    assert place.view.counts()["planned"] == 4
    assert len(list((place.folder / "outputs" / "runs").glob("*/checkpoint"))) == 2
    place.set("seconds", 0)
    place.sweep()
    place.assert_all_done()


def test_a_second_interruption_ends_trials_that_do_not_stop(place):
    place.set("seconds", 30)
    place.set("stubborn", "")
    sweep = place.start_sweep()
    place.wait_until_running(2)
    for number in (1, 2):
        place.pid_of_trial(number)
    sweep.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert sweep.poll() is None
    sweep.send_signal(signal.SIGINT)
    started = time.monotonic()
    ends(sweep, 75)
    assert time.monotonic() - started < 5
    assert all(died_here(row["worker"]) for row in place.view.cells(states=["running"]))
    place.ledger.reap()
    assert place.view.counts()["planned"] == 4


def test_stopping_one_study_ends_its_trials_and_no_others(place):
    place.add()
    other = StudyKey("other", "smoke")
    cells = [replace(cell, experiment="other") for cell in place.cells[1:]]
    place.ledger.add(other, {}, cells, place.folder / "outputs" / "runs")
    place.set("seconds", 30)
    workers = [place.worker() for _ in range(2)]
    place.wait_until_running(2)
    place.ledger.stop([NK])  # trial 1 is of that study alone, trial 2 of both
    deadline = time.monotonic() + 20
    while (states := [row["state"] for row in place.view.cells()]) != ["planned", "running", "running", "planned"]:
        assert time.monotonic() < deadline, states
        time.sleep(0.05)
    for worker in workers:
        worker.terminate()
        ends(worker, 75)


def test_workers_end_when_their_sweep_is_killed(place):
    place.set("seconds", 30)
    sweep = place.start_sweep()
    place.wait_until_running(2)
    sweep.kill()
    deadline = time.monotonic() + 10
    while place.running():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert place.view.counts()["planned"] == 4


def test_a_killed_worker_is_replaced_within_the_sweep(place):
    place.add()
    place.set("kill-1", "")
    place.sweep(workers=1)
    place.assert_all_done()
    cell = place.view.cell(1)
    assert cell["deaths"] + cell["losses"] == 1  # its worker saw it die, or a look for dead processes came first
    assert [row["outcome"] for row in place.view.attempts(number=1)] == ["died", "done"]


@pytest.mark.parametrize("fault", ["def run(:", "undefined", "import no_such_module"])
def test_code_that_cannot_be_imported_ends_each_cell_once_with_its_reason(place, monkeypatch, fault):
    place.set("broken.py", fault)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([PATH, str(place.folder)]))
    output = place.sweep(5, run="broken:run")
    assert "0 of 4 cells done, 4 given up" in output
    assert len(re.findall(r"  trial \d, .*: broken: cannot be imported: \w+Error: .* Fix: mend the code", output)) == 4
    assert [row["outcome"] for row in place.view.attempts()] == ["failed"] * 4
    assert "Traceback" in next((place.folder / "outputs" / "runs").glob("*/error.log")).read_text()


def test_given_up_cells_are_listed_and_tried_again_on_request(place):
    place.set("fail-2", "crash")
    place.set("fail-3", "data")
    output = place.sweep(code=5)
    assert "2 of 4 cells done, 2 given up" in output
    assert "Nk=2, seed 0: RuntimeError: boom" in output
    assert "train.json: no videos" in output
    assert place.starts()[place.cells[1].hash] == 3
    assert place.starts()[place.cells[2].hash] == 1
    (place.folder / "fail-2").unlink()
    (place.folder / "fail-3").unlink()
    place.sweep(code=5)
    place.ledger.retry([NK])
    place.sweep()
    place.assert_all_done()


def test_workers_that_cannot_start_end_the_sweep_with_their_own_error(place):
    with pytest.raises(ConfigError, match=r"^no run function 'no_such_module:run'. Fix: give it as module:function$"):
        place.sweep(run="no_such_module:run", workers=1)
    assert "no_such_module" in (place.folder / "outputs" / "logs" / "worker-0.log").read_text()


def test_a_search_runs_as_many_cells_as_asked_and_goes_on_when_asked_for_more(place):
    place.study = place.study.model_copy(update={"search": Search(sampler="tpe", trials=3)})
    assert "3 of 3 cells done" in place.sweep(workers=3)
    assert sum(place.starts().values()) == 3
    place.sweep()
    assert sum(place.starts().values()) == 3
    more = {"search": Search(sampler="tpe", trials=9)}
    place.study = place.study.model_copy(update=more)
    with pytest.raises(ConfigError, match=r"trials.*--extend"):
        place.sweep()
    enrol(place.ledger, place.study, place.folder / "outputs" / "runs", "extend")
    assert "4 of 4 cells done" in place.sweep(workers=3)  # there are no more points
    assert sorted(place.starts().values()) == [1, 1, 1, 1]


def test_a_grid_that_grew_runs_only_its_new_cells_and_one_that_changed_must_be_meant(place):
    place.sweep()
    place.plan([1, 2, 3, 4, 5], [0])
    with pytest.raises(ConfigError, match=r"nk\.yaml: axes: is not the study nk-smoke that has begun: .*5.*--extend"):
        place.add()
    enrol(place.ledger, place.study, place.folder / "outputs" / "runs", "extend")
    assert "5 of 5 cells done" in place.sweep()
    place.plan([5, 4, 6], [0])
    with pytest.raises(ConfigError, match="--replace"):
        enrol(place.ledger, place.study, place.folder / "outputs" / "runs", "extend")
    enrol(place.ledger, place.study, place.folder / "outputs" / "runs", "replace")
    assert "3 of 3 cells done" in place.sweep()
    assert sum(place.starts().values()) == 6
    assert len(place.view.results()) == 6  # those that left the study, too


def test_hopeless_cells_are_pruned_and_the_best_is_not(place):
    place.plan([10, 9, 8, 1, 2, 3, 11, 4], [0])  # the fake AP has its maximum at 10
    place.set("early", "")
    search = Search(sampler="grid", trials=8, pruner=MedianSettings(name="median", startup_trials=3, warmup_steps=0))
    place.study = place.study.model_copy(update={"search": search})
    output = place.sweep(workers=2)
    counts = place.view.counts()
    assert counts["pruned"] >= 2
    assert counts["done"] + counts["pruned"] == 8
    assert f"{counts['done']} of 8 cells done, {counts['pruned']} pruned" in output
    states = {row["axes"]["Nk"]: row["state"] for row in place.view.rows()}
    assert states[10] == "done"
    pruned = [row for row in place.view.cells() if row["state"] == "pruned"]
    assert all("is not worth going on, says the pruner of nk-smoke" in row["error"] for row in pruned)
    trials = optuna.load_study(
        study_name="nk-smoke", storage=f"sqlite:///{place.folder}/outputs/optuna.db"
    ).get_trials()
    assert sum(trial.state.name == "PRUNED" for trial in trials) == counts["pruned"]
