"""Git, asked by a program: nobody's settings change the answer, and nothing is written into the repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SECONDS = 60
_PLAIN = ("core.quotepath=off", "core.fsmonitor=false", "diff.suppressBlankEmpty=false")
_OF_A_CALLER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_EXTERNAL_DIFF")


def git(
    folder: Path, *words: str, extra: Mapping[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[bytes] | None:
    """Git with these words in a folder, whatever repository a caller's environment names; None if it is not there."""
    around = {name: value for name, value in os.environ.items() if name not in _OF_A_CALLER}
    around |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(extra or {})}
    settings = [word for setting in _PLAIN for word in ("-c", setting)]
    command = ["git", "-C", str(folder), *settings, *words]
    try:
        return subprocess.run(command, input=given, capture_output=True, check=False, env=around, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None


def output(folder: Path, *words: str, extra: Mapping[str, str] | None = None, given: bytes = b"") -> bytes | None:
    """What git prints; None if it fails or is not there."""
    done = git(folder, *words, extra=extra, given=given)
    return done.stdout if done is not None and done.returncode == 0 else None


def names_in(text: bytes | None) -> set[str]:
    """The files of a list that ends each with a zero."""
    return {os.fsdecode(name) for name in (text or b"").split(b"\0") if name}
