"""Signals to a whole process group, as SLURM and terminals send them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from sweeping import Place, ends


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("place", [(1, 1)], indirect=True)
def test_a_signal_to_all_processes_of_a_worker_is_a_stop_and_no_death(place: Place, number: signal.Signals) -> None:
    place.add()
    place.set("seconds", 30)
    command = [sys.executable, "-m", "sweeps.worker", "outputs/ledger.db", "--run", "fake_run:run", "--poll", "0.05"]
    worker = subprocess.Popen(
        command, cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    place.processes.append(worker)
    deadline = time.monotonic() + 20
    while not (place.folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(worker.pid, number)
    ends(worker, 75)
    assert [row["outcome"] for row in place.view.attempts()] == ["released"]
    assert place.view.counts()["planned"] == 1
