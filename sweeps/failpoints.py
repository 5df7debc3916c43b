"""Named places where a test can kill the process, to prove that dying there loses and doubles nothing."""

from __future__ import annotations

import os
import signal


def failpoint(name: str) -> None:
    """End this process with SIGKILL if the environment says ``FAULT_AT=<name>``; otherwise do nothing."""
    if os.environ.get("FAULT_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
