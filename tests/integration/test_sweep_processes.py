"""Sweeps with real processes and a run function that trains nothing: kills, freezes, interruption, mirrors."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from rich.console import Console

from sweeps.experiment import Cell, load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.runner import Sweep, SweepOptions
from sweeps.tracking.notes import number_waiting
from sweeps.view import StudyKey
from syncvis.errors import WorkbenchError

TESTS = Path(__file__).parents[1]
FAKES = TESTS / "unit" / "sweeps"
PATH = os.pathsep.join([str(FAKES), str(TESTS.parent)])  # this tree, whichever one is installed
NK = StudyKey("nk", "smoke")
OPTIONS = {"run": "fake_run:run", "workers": 2, "poll": 0.1, "wandb": "disabled"}
SWEEP = f"""
import sys
from pathlib import Path
from rich.console import Console
from sweeps.ledger import Ledger
from sweeps.runner import Sweep, SweepOptions
from sweeps.view import StudyKey
from syncvis.errors import Interrupted

try:
    Sweep(Ledger("outputs/ledger.db"), [StudyKey("nk", "smoke")], SweepOptions(**{OPTIONS}), Console()).run()
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""


class Place:
    """A folder with one experiment, and ways to start workers and sweeps in it."""

    def __init__(self, folder: Path, values: int, seeds: int):
        self.folder, self.ledger = folder, Ledger(folder / "outputs" / "ledger.db")
        self.view = self.ledger.view
        (folder / "experiments" / "base").mkdir(parents=True)
        base = {"data": {"root": "data"}, "train": {"steps": 2}}
        (folder / "experiments" / "base" / "smoke.yaml").write_text(yaml.safe_dump(base))
        words = {"id": "nk", "title": "Nk", "question": "?", "paper_ref": "-", "base": "base/{scale}.yaml"}
        axes = {"Nk": {"key": "sync.num_selected", "values": list(range(1, values + 1))}}
        path = folder / "experiments" / "nk.yaml"
        path.write_text(yaml.safe_dump({**words, "axes": axes, "seeds": list(range(seeds))}))
        self.cells: list[Cell] = plan_cells(load_experiment(path), "smoke")
        self.processes: list[subprocess.Popen[str]] = []

    def add(self) -> None:
        self.ledger.add(NK, {}, self.cells, self.folder / "outputs" / "runs")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def worker(self, lease: float = 60, **environment: str) -> subprocess.Popen[str]:
        words = ["-m", "sweeps.worker", "outputs/ledger.db", "--run", "fake_run:run"]
        return self.start(*words, "--lease", str(lease), "--poll", "0.05", **environment)

    def start_sweep(self) -> subprocess.Popen[str]:
        self.add()
        return self.start("-c", SWEEP)

    def sweep(self, code: int = 0, **options: Any) -> str:
        """Run a whole sweep from this process; returns what it printed."""
        self.add()
        output = io.StringIO()
        given = SweepOptions(**{**OPTIONS, "out": self.folder / "outputs", **options})
        assert Sweep(self.ledger, [NK], given, Console(file=output)).run() == code, output.getvalue()
        return output.getvalue()

    def set(self, name: str, text: object) -> None:
        (self.folder / name).write_text(str(text))

    def starts(self) -> Counter[str]:
        return Counter((self.folder / "started").read_text().split())

    def running(self) -> int:
        return self.view.counts()["running"]

    def pid_of_trial(self, number: int) -> int:
        """Of the process that runs it, once that has taken over from the worker."""
        deadline, workers = time.monotonic() + 20, [str(process.pid) for process in self.processes]
        while True:
            row = self.view.cell(number)
            pid = row["worker"].split(":")[-2] if row["worker"] else None
            if pid and pid not in workers:
                return int(pid)
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def wait_until_running(self, number: int) -> None:
        deadline = time.monotonic() + 20
        while self.running() < number:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def assert_all_done(self) -> None:
        counts = self.view.counts([NK])
        assert (counts["done"], sum(counts.values())) == (len(self.cells), len(self.cells)), counts
        results = self.view.results()
        for cell in self.cells:
            assert results[cell.hash]["config"] == cell.config.model_dump(mode="json")
            assert [row["step"] for row in self.view.metrics(cell.hash).values()] == [1, 2, 2]


@pytest.fixture
def place(tmp_path, request, monkeypatch):
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    values, seeds = getattr(request, "param", (4, 1))
    made = Place(tmp_path, values, seeds)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output


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


@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_frozen_worker_does_not_matter_to_its_trial(place):
    place.add()
    place.set("seconds", 1.0)
    frozen = place.worker(lease=0.5)
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
    assert place.view.cell(1)["deaths"] == 1


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


def test_workers_that_cannot_start_end_the_sweep_with_their_log(place):
    with pytest.raises(WorkbenchError, match=r"worker-0\.log: workers end with code 2 before they take a cell"):
        place.sweep(run="no_such_module:run", workers=1)
    assert "no_such_module" in (place.folder / "outputs" / "logs" / "worker-0.log").read_text()


def test_a_search_runs_as_many_cells_as_asked(place):
    assert "3 of 4 cells done" in place.sweep(sampler="tpe", trials=3, workers=3)
    assert sum(place.starts().values()) == 3
    place.sweep(sampler="tpe", trials=3)
    assert sum(place.starts().values()) == 3
