"""Processes that end when the process that started them does, however that ends.

Run as a script, ``bound_process.py USER SIGNAL PROGRAM WORD...`` becomes PROGRAM; root becomes USER first.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def die_with_parent(end: signal.Signals = signal.SIGKILL) -> None:
    """Let this process get ``end`` when the thread that started it is gone (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, end)


def bound(user: str, end: signal.Signals, command: Sequence[object]) -> list[str]:
    """The command that runs ``command`` so."""
    return [sys.executable, "-I", __file__, user, end.name, *map(str, command)]


def _become(user: str, end: signal.Signals, command: list[str]) -> None:
    parent = os.getppid()
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.chdir("/")
    die_with_parent(end)  # after the change of user, which forgets it
    if os.getppid() == parent:
        os.execve(command[0], command, {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"})


if __name__ == "__main__":
    _become(sys.argv[1], signal.Signals[sys.argv[2]], sys.argv[3:])
