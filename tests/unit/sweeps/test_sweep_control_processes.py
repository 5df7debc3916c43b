"""The commands beside real workers, which carry out a run that trains nothing."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sweeps.ledger import Ledger

FAKES = Path(__file__).parent
PATH = os.pathsep.join([str(FAKES), str(FAKES.parents[2])])
STATUS = "import sys; from sweeps.cli import app; app(sys.argv[1:])"


@pytest.fixture
def ledger(sweep, plan_values, add, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    made = Ledger(tmp_path / "outputs" / "ledger.db")
    add(made, plan_values([2, 4, 6]), tmp_path / "outputs" / "runs")
    return made


@pytest.fixture
def start(ledger):
    """Start Python in the folder of the ledger."""
    processes = []

    def start_one(*words):
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen([sys.executable, *words], stdout=pipe, stderr=subprocess.STDOUT, text=True))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def worker(start):
    return start("-m", "sweeps.worker", "outputs/ledger.db", "--run", "fake_run:run", "--poll", "0.05")


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stop_ends_workers_after_a_checkpoint_and_work_goes_on_after_resume(sweep, ledger, start, tmp_path):
    (tmp_path / "seconds").write_text("60")
    workers = [worker(start) for _ in range(2)]
    wait_for(lambda: len(list((tmp_path / "outputs" / "runs").glob("*/config.yaml"))) == 2)
    output = sweep("stop").output
    assert "none runs" in output
    assert len(list((tmp_path / "outputs" / "runs").glob("*/checkpoint"))) == 2
    assert ledger.view.counts()["planned"] == 3
    assert [process.wait(20) for process in workers] == [75, 75]
    (tmp_path / "seconds").write_text("0")
    sweep("resume")
    assert worker(start).wait(30) == 0
    assert ledger.view.counts()["done"] == 3


def test_the_log_of_a_crash_has_its_traceback_and_retry_mends_it(sweep, ledger, start, tmp_path):
    (tmp_path / "fail-4").write_text("crash")
    assert worker(start).wait(30) == 0
    status = sweep("status").output
    assert "trial 2, nk: Nk=4, seed 0, given up: RuntimeError: boom" in status
    path = next(line for line in status.splitlines() if "boom" in line).rpartition("(")[2].rstrip(")")
    assert Path(path).exists()
    log = sweep("log", 2).output
    assert "attempt 3: " in log
    assert "Traceback (most recent call last)" in log
    assert "fake_run.py" in log
    (tmp_path / "fail-4").unlink()
    assert "1 trial planned again" in sweep("retry", 2).output
    assert worker(start).wait(30) == 0
    assert ledger.view.counts()["done"] == 3
    assert sweep("rerun", 2, "--run", "fake_run:run").exit_code == 0


def test_watching_ends_with_ctrl_c(ledger):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    words = [sys.executable, "-c", STATUS, "status", "--watch"]
    watching = subprocess.Popen(words, stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
    try:
        os.close(theirs)
        shown = b""
        while shown.count(b"Ctrl-C ends") < 2:  # it has looked twice
            shown += os.read(ours, 4096)
        watching.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        assert watching.wait(20) == 0, shown
    finally:
        watching.kill()
        os.close(ours)
    assert b"nk-smoke" in shown
    assert b"Traceback" not in shown
