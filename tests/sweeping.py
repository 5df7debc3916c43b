"""Sweeps in a folder of their own, with real processes and the run function of ``unit/sweeps/fake_run.py``."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from sweeps.enrolment import enrol
from sweeps.experiment import load_experiment, study_at
from sweeps.ledger import Ledger
from sweeps.runner import Sweep, SweepOptions
from sweeps.view import StudyKey

TESTS = Path(__file__).parent
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
    """A folder with one experiment, and ways to start workers and sweeps in it.

    ``storage`` is the URL of another database than the SQLite file ``outputs/ledger.db``.
    """

    run = "fake_run:run"

    def __init__(
        self, folder: Path, values: int, seeds: int, storage: str | None = None, base: dict[str, Any] | None = None
    ):
        self.folder, self.storage = folder, storage or str(folder / "outputs" / "ledger.db")
        self.ledger = Ledger(self.storage)
        self.view = self.ledger.view
        (folder / "experiments" / "base").mkdir(parents=True)
        tree = base or {"data": {"root": "data"}, "train": {"steps": 2}}
        (folder / "experiments" / "base" / "smoke.yaml").write_text(yaml.safe_dump(tree))
        self.processes: list[subprocess.Popen[str]] = []
        self.plan(list(range(1, values + 1)), list(range(seeds)))

    def plan(self, values: list[int], seeds: list[int]) -> None:
        """Write the experiment anew."""
        words = {"id": "nk", "title": "Nk", "question": "?", "paper_ref": "-", "base": "base/{scale}.yaml"}
        axes = {"Nk": {"key": "sync.num_selected", "values": values}}
        path = self.folder / "experiments" / "nk.yaml"
        path.write_text(yaml.safe_dump({**words, "axes": axes, "seeds": seeds}))
        self.study = study_at(load_experiment(path), "smoke")
        self.cells = self.study.cells()

    def add(self) -> None:
        enrol(self.ledger, self.study, self.folder / "outputs" / "runs")

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
        words = ["-m", "sweeps.worker", self.storage, "--run", self.run]
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

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output


def work(words: list[str]) -> None:
    """What a worker forked from a zygote does."""
    from sweeps import worker

    sys.exit(worker.main(words))
