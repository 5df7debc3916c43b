"""The mirror's process as its starter sees it: watched, killed when it hangs, started again when it died."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sweeps.tracking.environment import LOG, Mode, wandb_environment
from sweeps.tracking.processes import end_service_of, kill_with_service
from sweeps.view import StudyKey
from sweeps.worker import STORAGE_VARIABLE

SILENCE_SECONDS = {"offline": 30.0, "online": 120.0}
"""How long the process may do nothing before it is thought to hang."""
MAX_PAUSE_SECONDS = 300.0
LAST_TRIES = 2
"""How often in a row it may fail without completing a run once it was told to finish."""
LOOK_SECONDS = 0.2
POLL_SECONDS = 2.0


class MirrorProcess:
    """Keeps one mirror process going, from a thread; never raises, and nobody has to wait for it.

    Args:
        storage: SQLite file or URL of the ledger, handed on in the environment.
        folder: ``outputs/wandb``; what goes wrong is in ``mirror.log`` there.
        silence: seconds; see ``SILENCE_SECONDS``.
        poll: seconds between two looks at the ledger.
    """

    def __init__(
        self,
        storage: str,
        folder: Path,
        mode: Mode,
        keys: Sequence[StudyKey] | None,
        artifacts: bool = False,
        silence: float | None = None,
        poll: float = POLL_SECONDS,
    ):
        words = [sys.executable, "-m", "sweeps.tracking", str(folder), "--mode", mode, "--poll", str(poll)]
        words += ["--artifacts"] * artifacts + (["--studies", *(key.name for key in keys)] if keys else [])
        self._command, self._folder = words, folder
        self._environment = {**wandb_environment(folder, mode), STORAGE_VARIABLE: storage}
        self._silence = silence or SILENCE_SECONDS[mode]
        self._finish, self._kill = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._tend, name="W&B mirror", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Let the mirror copy what is left, for at most some seconds; then no process and no thread is left."""
        self._finish.set()
        self._thread.join(seconds)
        self._kill.set()
        self._thread.join()

    def _tend(self) -> None:
        failures = last_tries = 0
        while not self._kill.is_set() and last_tries < LAST_TRIES:
            is_last = self._finish.is_set()
            try:
                code, progress = self._live()
            except OSError as error:  # no process, no folder, no room for the log
                self._note(f"the mirror was not started: {error}")
                code, progress = 1, False
            if code == 0:
                return
            failures = 1 if progress else failures + 1
            last_tries = 0 if progress else last_tries + is_last
            if not is_last:
                self._finish.wait(min(2.0 ** (failures - 1), MAX_PAUSE_SECONDS))

    def _live(self) -> tuple[int, bool]:
        """One life of the process: how it ended, and whether it completed a run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                process_group=0,
            )
        assert process.stdin
        assert process.stdout
        with process.stdout, _closing(process.stdin):
            progress = self._watch(process, process.stdin, process.stdout.fileno())
            if process.poll() is None:
                kill_with_service(process)
            end_service_of(process.pid)
            return process.returncode, progress

    def _watch(self, process: subprocess.Popen[bytes], orders: IO[bytes], pulse: int) -> bool:
        heard, told, progress = time.monotonic(), False, False
        while process.poll() is None and not self._kill.is_set():
            if self._finish.is_set() and not told:
                told = True
                with suppress(OSError):
                    orders.write(b"finish\n")
                    orders.flush()
            if select.select([pulse], [], [], LOOK_SECONDS)[0]:
                words = os.read(pulse, 65536)
                if not words:
                    time.sleep(LOOK_SECONDS)
                heard, progress = time.monotonic(), progress or b"+" in words
            if time.monotonic() - heard > self._silence:
                self._note(f"the mirror did nothing for {self._silence:.0f} seconds and is started again")
                break
        return progress

    def _note(self, text: str) -> None:
        with suppress(OSError), (self._folder / LOG).open("a") as log:
            print(text, file=log)


@contextmanager
def _closing(pipe: IO[bytes]) -> Iterator[None]:
    """Close a pipe, whose reader may be dead, in the end."""
    try:
        yield
    finally:
        with suppress(OSError):
            pipe.close()
