"""Worker processes of this machine: started, restarted when they die, asked to stop, and in the end killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sweeps.placement.orders import Deaths, WorkerOptions, start_worker
from sweeps.view import StudyKey


class Pool:
    """A fixed number of worker processes for some studies, each in a process group of its own.

    Args:
        claims: How many claims these studies have seen so far, see :class:`Deaths`.
    """

    def __init__(self, options: WorkerOptions, size: int, keys: Sequence[StudyKey], claims: Callable[[], int]):
        self._options, self._keys = replace(options, sharing=size), keys
        options.logs.mkdir(parents=True, exist_ok=True)
        self._deaths = Deaths(claims)
        self._workers = [self._start(slot) for slot in range(size)]

    @property
    def where(self) -> str:
        return f"{len(self._workers)}, as processes of this machine"

    def tend(self) -> bool:
        for slot, process in enumerate(self._workers):
            code = process.poll()
            if code is not None and code != 0:
                self._deaths.count(f"workers end with code {code}", self._log(slot), code)
                self._workers[slot] = self._start(slot)
        return self.alive()

    def alive(self) -> bool:
        return any(process.poll() is None for process in self._workers)

    def stop(self) -> None:
        for process in self._workers:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        for process in self._workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, slot: int) -> subprocess.Popen[str]:
        options = self._options
        gpus = options.gpus[slot % len(options.gpus)] if options.gpus else None
        with self._log(slot).open("a") as log:
            return start_worker(options.words(self._keys), options.storage, log, gpus=gpus, own_group=True)

    def _log(self, slot: int) -> Path:
        return self._options.logs / f"worker-{slot}.log"
