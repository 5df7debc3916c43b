"""Two processes that train one trial together, over gloo: one result, one stop, one reason when one of them fails."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config
from sweeping import PATH, Place, ends

from sweeps import ranks
from sweeps.ranks import together
from sweeps.trial import CodeError
from syncvis import distributed
from syncvis.errors import DataError, Interrupted, WorkbenchError
from syncvis.execution import PLAIN, Execution


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all tests: the processes are forked from one that is started, with its environment, only once."""
    forkserver._forkserver._stop()  # another test may have started it
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_FOLDER", str(folder))
        patch.setenv("PYTHONPATH", PATH)
        yield folder


@pytest.fixture
def folder(shared: Path) -> Path:
    for path in shared.iterdir():
        path.unlink()
    (shared / "ticks").write_text("5")
    return shared


class Trial:
    """A run of two processes that stops once ``stop_after`` rows were heard."""

    def __init__(self, out: Path, stop_after: int = 100):
        self.out, self.stop_after = out, stop_after
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def run(self) -> dict[str, Any]:
        run = together("fake_ranks:run", PLAIN, 2)
        return run(tiny_config(), self.out, self.should_stop, lambda line, row: self.rows.append((line, row)))

    def should_stop(self) -> bool:
        return len(self.rows) >= self.stop_after


def test_both_train_and_the_first_one_alone_is_heard(folder: Path, tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    result = trial.run()
    assert result["ranks"] == [0, 1]
    assert trial.rows == [(0, {"step": 1, "rank": 0}), (1, {"step": 2, "rank": 0})]


def test_a_stop_reaches_both_before_the_next_step_and_waits_for_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    (folder / "ticks").write_text("100000")
    trial = Trial(tmp_path, stop_after=1)
    with pytest.raises(Interrupted, match="stopped"):
        trial.run()
    assert (tmp_path / "checkpoint").read_text() == "1"


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("boom", DataError, "train.json: no videos"),
        ("bug", CodeError, "process 1: KeyError: 'masks'"),
        ("killed", WorkbenchError, "process 1: its process was killed (signal 9); out of memory?"),
    ],
)
def test_the_fault_of_one_ends_both_with_its_reason(
    folder: Path, tmp_path: Path, fault: str, kind: type[Exception], reason: str
) -> None:
    (folder / "fault-1").write_text(fault)
    with pytest.raises(kind) as caught:
        Trial(tmp_path).run()
    assert str(caught.value) == reason


def test_each_process_is_told_its_own_gpu_and_its_place_as_by_torchrun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = ranks._places(4)[1]
    names = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    assert set(place) == names
    assert (place["LOCAL_RANK"], place["LOCAL_WORLD_SIZE"]) == ("1", "4")
    for name, value in place.items():
        monkeypatch.setenv(name, value)  # so that it is taken back
    asked = Execution("cuda", 2, 3, checkpoint_activations=True)
    told: list[Execution] = []
    monkeypatch.setattr(distributed, "joined", lambda device: nullcontext(f"{device}:{os.environ['LOCAL_RANK']}"))
    monkeypatch.setattr(ranks, "load_run", lambda run, execution: told.append(execution) or (lambda *_: {}))
    monkeypatch.setattr(ranks, "stop_signal", lambda: lambda: False)
    monkeypatch.setattr(ranks, "_die_with_parent", lambda: None)
    ours, theirs = multiprocessing.Pipe()
    ranks._main(theirs, tiny_config(), tmp_path, "run", asked, place)
    assert told == [replace(asked, device="cuda:1")]
    assert ours.recv().error is None


@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_worker_runs_a_trial_by_two_processes(place: Place) -> None:
    place.set("ticks", 3)
    place.add()
    words = ["-m", "sweeps.worker", "outputs/ledger.db", "--run", "fake_ranks:run", "--processes", "2"]
    ends(place.start(*words, "--poll", "0.05"))
    assert [result["ranks"] for result in place.view.results().values()] == [[0, 1]]
    assert [row["outcome"] for row in place.view.attempts()] == ["done"]
