"""Who a process is, so that others on the same machine can tell that it is dead, or end it."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path


def this_process() -> str:
    """ "host:boot:pid:start time": the start time (clock ticks since boot) tells a reused pid apart."""
    return f"{_machine()}:{os.getpid()}:{_start_time(os.getpid())}"


def died_here(worker: str) -> bool:
    """Whether that process ran on this machine and is gone; False where that cannot be known."""
    parts = worker.rsplit(":", 3)
    if len(parts) != 4 or parts[0] != socket.gethostname() or parts[3] == "0" or not _knows_processes():
        return False
    return parts[1] != _boot() or _start_time(int(parts[2])) != parts[3]


def ran_elsewhere(worker: str) -> bool:
    """Whether that process is one of another machine."""
    parts = worker.rsplit(":", 3)
    return len(parts) == 4 and parts[0] != socket.gethostname()


def kill_here(worker: str) -> None:
    """End that process if it runs on this machine and is not this one."""
    parts = worker.rsplit(":", 3)
    if len(parts) == 4 and f"{parts[0]}:{parts[1]}" == _machine() and parts[3] != "0" and worker != this_process():
        with suppress(OSError, ValueError):
            if _start_time(int(parts[2])) == parts[3]:
                os.kill(int(parts[2]), signal.SIGKILL)


def _machine() -> str:
    return f"{socket.gethostname()}:{_boot()}"


@cache
def _boot() -> str:
    """Tells this start of the machine from earlier ones."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "0"


@cache
def _knows_processes() -> bool:
    return Path("/proc/self/stat").exists()


def _start_time(pid: int) -> str:
    """Field 22 of /proc/<pid>/stat; "0" if there is no such process, or only its unburied remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "0"
    fields = stat[stat.rindex(")") + 2 :].split()
    return "0" if fields[0] in "ZX" else fields[19]
