"""Named places where a test can kill the process, to prove that dying there loses and doubles nothing."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def failpoint(name: str) -> None:
    """End this process with SIGKILL if the environment says ``FAULT_AT=<name>``; otherwise do nothing.

    ``FAULT_AT=<name>:<folder>`` kills as often as there are files in the folder: each death uses one up.
    """
    asked, _, tokens = os.environ.get("FAULT_AT", "").partition(":")
    if asked == name and (not tokens or _take_one(Path(tokens))):
        os.kill(os.getpid(), signal.SIGKILL)


def _take_one(folder: Path) -> bool:
    for token in folder.iterdir():
        with suppress(FileNotFoundError):  # another process took it first
            token.unlink()
            return True
    return False
