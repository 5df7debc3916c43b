"""Signals to a whole process group, as SLURM and terminals send them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeping import Place, ends

COMMAND = [sys.executable, "-m", "sweeps.worker", "outputs/ledger.db", "--run", "fake_run:run", "--poll", "0.05"]


def start(place: Place) -> subprocess.Popen[str]:
    """A worker in a process group of its own, with a cell that takes half a minute."""
    place.add()
    place.set("seconds", 30)
    worker = subprocess.Popen(
        COMMAND, cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    place.processes.append(worker)
    return worker


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def assert_given_back(place: Place, worker: subprocess.Popen[str]) -> None:
    ends(worker, 75)
    assert [row["outcome"] for row in place.view.attempts()] == ["released"]
    assert place.view.counts()["planned"] == 1


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_signal_to_all_processes_of_a_worker_is_a_stop_and_no_death(place: Place, number: signal.Signals) -> None:
    worker = start(place)
    wait_for((place.folder / "started").exists)
    os.killpg(worker.pid, number)
    assert_given_back(place, worker)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_signal_while_the_process_that_forks_trials_starts_is_a_stop(place: Place, number: signal.Signals) -> None:
    worker = start(place)
    wait_for(lambda: any(map(is_forking_server, children(worker.pid))))
    os.killpg(worker.pid, number)
    assert_given_back(place, worker)


def children(parent: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def is_forking_server(process: int) -> bool:
    return b"multiprocessing.forkserver" in Path(f"/proc/{process}/cmdline").read_bytes()
