"""Processes that start in milliseconds: forks of one process that has imported what they need already.

Run as a script, it is that process. It dies with whoever made it, and its forks die with it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bound_process import die_with_parent

TIMEOUT = 60.0


class Fork:
    """A forked process, with the names of ``subprocess.Popen``."""

    def __init__(self, pid: int):
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, the negative signal if one ended it, None while it runs."""
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class Zygote:
    """A context manager; ``modules`` are imported before the first fork, ``paths`` stand before ``sys.path``.

    What the forks print goes to ``log``, or where this process prints.
    """

    def __init__(self, modules: Sequence[str], paths: Sequence[Path] = (), log: Path | None = None):
        self._forks: dict[int, Fork] = {}
        self._started: queue.Queue[Fork] = queue.Queue()
        path = os.pathsep.join([*map(str, paths), *filter(None, sys.path)])
        with open(log or os.devnull, "ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(os.getpid()), *modules],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file if log else None,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # its forks die with it
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def start(self, work: str, *words: Any) -> Fork:
        """A fork that calls ``work`` ("module:function") with words that JSON can hold; only one thread may ask.

        It returns 0, what it gave ``sys.exit``, or 1 after an exception.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([work, words]) + "\n")
        self._process.stdin.flush()
        return self._started.get(timeout=TIMEOUT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pid, code = json.loads(line)
            if code is None:
                self._forks[pid] = Fork(pid)
                self._started.put(self._forks[pid])
            else:
                self._forks.pop(pid).returncode = code


def _serve() -> tuple[str, list[Any]] | None:
    """Fork once per line of the standard input. What a fork has to do; None in the zygote, at the end of the input."""
    wake, zygote, rest = _wake_on_child(), os.getpid(), b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 512)
        _report_ended()
        if 0 not in ready:
            continue
        if not (chunk := os.read(0, 1 << 16)):
            return None
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if os.fork() == 0:
                _settle(zygote)
                return tuple(json.loads(line))


def _wake_on_child() -> int:
    """A file descriptor that can be read when a child has ended."""
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake


def _report_ended() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _tell(pid, os.waitstatus_to_exitcode(status))


def _tell(pid: int, code: int | None) -> None:
    os.write(1, f"{json.dumps([pid, code])}\n".encode())


def _settle(zygote: int) -> None:
    """Make a fork an ordinary process: nothing of the zygote's but what it has imported. Then say that it is there."""
    die_with_parent()
    if os.getppid() != zygote:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _tell(os.getpid(), None)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)


def _main(parent: int, modules: Sequence[str]) -> None:
    die_with_parent()
    if os.getppid() != parent:
        return
    for module in modules:
        importlib.import_module(module)
    if task := _serve():
        module, _, name = task[0].partition(":")
        getattr(importlib.import_module(module), name)(*task[1])


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
