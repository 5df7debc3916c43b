"""wandb's service processes: each has a session of its own, so a signal to its starter's group does not reach it."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from itertools import pairwise
from pathlib import Path


def services_of(pid: int) -> list[int]:
    """The ``wandb-core`` processes that a process started; they name it in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0].endswith(b"wandb-core") and (b"--pid", b"%d" % pid) in pairwise(words):
                found.append(int(path.parent.name))
    return found


def end_service_of(pid: int) -> None:
    """Kill them; a healthy one ends with its starter, a frozen one does not."""
    for service in services_of(pid):
        with suppress(OSError):
            os.kill(service, signal.SIGKILL)


def kill_with_service(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its group, the group and its wandb services; returns when it is gone."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    end_service_of(process.pid)
    process.wait()
