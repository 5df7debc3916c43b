"""Worker processes of this machine: started, restarted when they die, asked to stop, and in the end killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeps.placement.orders import Deaths, WorkerOptions
from sweeps.view import StudyKey
from sweeps.worker import ONE_THREAD, STORAGE_VARIABLE


class Pool:
    """A fixed number of worker processes for some studies, each in a process group of its own.

    Args:
        claims: How many claims these studies have seen so far, see :class:`Deaths`.
    """

    def __init__(self, options: WorkerOptions, size: int, keys: Sequence[StudyKey], claims: Callable[[], int]):
        self._options, self._keys = options, keys
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

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        options = self._options
        command = [sys.executable, "-m", "sweeps.worker", *options.words(self._keys), "--parent", str(os.getpid())]
        environment = {**os.environ, **ONE_THREAD, STORAGE_VARIABLE: options.storage}
        if options.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = options.gpus[slot % len(options.gpus)]
        with self._log(slot).open("a") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, process_group=0
            )

    def _log(self, slot: int) -> Path:
        return self._options.logs / f"worker-{slot}.log"
