"""Worker processes of one sweep: started, restarted when they die, asked to stop, and in the end killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.trial import LEASE_SECONDS, RUN
from sweeps.view import StudyKey
from sweeps.worker import ONE_THREAD, POLL_SECONDS, STORAGE_VARIABLE
from syncvis.errors import StorageError, WorkbenchError

# Workers that die so often in a row before they take a cell will not do better next time.
MAX_IDLE_DEATHS = 3


@dataclass(frozen=True)
class WorkerOptions:
    """What every worker of a sweep is told.

    Attributes:
        storage: SQLite file or URL of the ledger; handed on in the environment, as it may hold a password.
        gpus: what each worker may use, as for CUDA_VISIBLE_DEVICES ("0" or "0,1"), shared out in turn; none for all.
    """

    storage: str
    logs: Path
    run: str = RUN
    device: str = "cpu"
    gpus: Sequence[str] = ()
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS


class Pool:
    """A fixed number of worker processes for some studies, each in a process group of its own.

    Args:
        claims: How many claims these studies have seen so far; it tells a worker that dies in a cell from one
            that never takes any.
    """

    def __init__(self, options: WorkerOptions, size: int, keys: Sequence[StudyKey], claims: Callable[[], int]):
        self._options, self._claims = options, claims
        self._studies = [key.name for key in keys]
        options.logs.mkdir(parents=True, exist_ok=True)
        self._idle_deaths, self._seen_claims = 0, claims()
        self._workers = [self._start(slot) for slot in range(size)]

    def tend(self) -> bool:
        """Restart workers that died; False once all have ended by themselves.

        Raises:
            WorkbenchError: They die before they take a cell.
        """
        for slot, process in enumerate(self._workers):
            code = process.poll()
            if code is not None and code != 0:
                self._count_death(slot, code)
                self._workers[slot] = self._start(slot)
        return self.alive()

    def alive(self) -> bool:
        return any(process.poll() is None for process in self._workers)

    def stop(self) -> None:
        """Ask all workers to store a checkpoint, give their cells back and end."""
        for process in self._workers:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all workers and their trials at once; cells are given back when others notice."""
        for process in self._workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        options = self._options
        command = [sys.executable, "-m", "sweeps.worker", "--studies", *self._studies]
        command += ["--run", options.run, "--device", options.device, "--parent", str(os.getpid())]
        command += ["--lease", str(options.lease_seconds), "--poll", str(options.poll_seconds)]
        environment = {**os.environ, **ONE_THREAD, STORAGE_VARIABLE: options.storage}
        if options.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = options.gpus[slot % len(options.gpus)]
        with self._log(slot).open("a") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, process_group=0
            )

    def _count_death(self, slot: int, code: int) -> None:
        claims = self._claims()
        self._idle_deaths = self._idle_deaths + 1 if claims == self._seen_claims else 1
        self._seen_claims = claims
        if self._idle_deaths > MAX_IDLE_DEATHS:
            kind = StorageError if code == StorageError.exit_code else WorkbenchError
            problem = f"workers end with code {code} before they take a cell"
            raise kind(problem, file=self._log(slot), fix="read the end of that file")

    def _log(self, slot: int) -> Path:
        return self._options.logs / f"worker-{slot}.log"
