"""Who a worker process is, so that others on the same machine can tell that it is dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_worker() -> str:
    """ "host:pid:start time"; the start time (clock ticks since boot) tells a reused pid apart."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def died_here(worker: str) -> bool:
    """Whether that worker ran on this machine and is gone; False where that cannot be known."""
    host, pid, started = worker.rsplit(":", 2)
    if host != socket.gethostname() or started == "0" or not Path("/proc/self/stat").exists():
        return False
    return _start_time(int(pid)) != started


def _start_time(pid: int) -> str:
    """Field 22 of /proc/<pid>/stat; "0" if there is no such process, or only its unburied remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "0"
    fields = stat[stat.rindex(")") + 2 :].split()
    return "0" if fields[0] in "ZX" else fields[19]
