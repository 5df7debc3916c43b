"""Processes of a run that are killed: the trainer at any time, its loader processes, and what they leave behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import logged_rows, tiny_config
from victims import children, command, running, seconds_until, training

from syncvis.config import RunConfig
from syncvis.errors import Interrupted, WorkbenchError
from syncvis.training import process as process_module
from syncvis.training.process import loader_faults
from syncvis.training.run import Runtime, run

LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds child processes in /proc")
STEPS = 12


@pytest.fixture(scope="module")
def config(tiny_data: Path) -> RunConfig:
    return tiny_config({"train.steps": STEPS, "train.eval_every": 5, "train.checkpoint_every": 3}, tiny_data)


@pytest.fixture(scope="module")
def endless(tiny_data: Path) -> RunConfig:
    return tiny_config({"train.steps": 100_000}, tiny_data)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(config, out)
    return out


def _assert_same(out: Path, whole: Path) -> None:
    assert logged_rows(out) == logged_rows(whole)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_twice_at_random_the_rows_and_weights_are_the_same(
    config: RunConfig, whole: Path, tmp_path: Path, workers: int
) -> None:
    told: dict[int, object] = {}
    for last in sorted(random.Random(workers).sample(range(1, STEPS), 2)):
        steps: list[float] = [0]

        def on_row(line: int, row: dict[str, float | None], steps: list[float] = steps) -> None:
            told[line] = row
            steps.append(row["step"] or 0)

        stop = Runtime(loader_workers=workers, on_row=on_row, should_stop=lambda n=last, s=steps: s[-1] >= n)  # type: ignore[misc]
        with pytest.raises(Interrupted):
            run(config, tmp_path / "run", stop)
    run(config, tmp_path / "run", Runtime(loader_workers=workers, on_row=told.__setitem__))
    _assert_same(tmp_path / "run", whole)
    assert sorted(told) == list(range(len(logged_rows(whole))))


def test_killed_at_five_random_steps_the_rows_and_weights_are_the_same(
    config: RunConfig, whole: Path, tmp_path: Path
) -> None:
    steps = sorted(random.Random(7).choices(range(1, STEPS - 2), k=5))
    done = subprocess.run(
        command(config, tmp_path, 2, "kills", *steps), capture_output=True, text=True, timeout=100, check=True
    )
    codes = [int(code) for code in done.stdout.split()]
    assert codes == [-signal.SIGKILL] * 5 + [0]
    _assert_same(tmp_path / "run", whole)


@LINUX
def test_loader_processes_end_with_a_killed_trainer(endless: RunConfig, tmp_path: Path) -> None:
    """The trainer is a child itself, as in a sweep. Measured: 5 s, the interval at which PyTorch looks."""
    with training(endless, tmp_path, 2, "nested") as (_, trainer):
        loaders = children(trainer)
        assert len(loaders) == 2
        os.kill(trainer, signal.SIGKILL)
        assert seconds_until(lambda: not any(map(running, loaders)), 10) < 10


@LINUX
def test_a_killed_loader_process_is_an_error_not_a_hang(endless: RunConfig, tmp_path: Path) -> None:
    with training(endless, tmp_path, 2) as (process, trainer):
        victim = children(trainer)[0]
        os.kill(victim, signal.SIGKILL)
        started = time.monotonic()
        _, text = process.communicate(timeout=30)
    assert time.monotonic() - started < 30
    # The other loader may end after the trainer, and Python then says so in its place.
    last = [line for line in text.strip().splitlines() if line != "lost sys.stderr"][-1]
    assert last.startswith("syncvis.errors.WorkbenchError: --loader-workers: process ")
    assert str(victim) in last
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", r"process 12 of the loader ended \(is killed by"),
        ("DataLoader worker (pid(s) 1, 2) exited unexpectedly", r"process 1, 2 of the loader ended \(exited unexp"),
    ],
)
def test_both_ways_in_which_pytorch_tells_of_a_loader(text: str, wanted: str) -> None:
    with pytest.raises(WorkbenchError, match=wanted) as error, loader_faults():
        raise RuntimeError(text)
    assert type(error.value) is WorkbenchError  # not of a kind that is never tried again


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()], ids=repr)
def test_a_loader_that_dies_while_it_hands_over_a_batch_is_named(error: Exception) -> None:
    """The broken connection is seen before the signal of the dead process, which PyTorch turns into its error."""

    def arrives(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    before = signal.signal(signal.SIGALRM, arrives)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(WorkbenchError, match=r"process 12 of the loader ended"), loader_faults():
            raise error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "SIGNAL_SECONDS", 0.01)
    with pytest.raises(ConnectionResetError), loader_faults():
        raise ConnectionResetError
    with pytest.raises(RuntimeError, match="shapes"), loader_faults():
        raise RuntimeError("shapes differ")
