"""What earlier looks found, in small files of the user's cache folder; without one everything is looked at again.

``$XDG_CACHE_HOME/syncvis/looks``, by default in ``~/.cache``. Several processes may use it at once, and its files may
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from syncvis.errors import StorageError
from syncvis.files import remove_litter, write_text

MAX_FILES = 200
MAX_BYTES = 4 * 2**20
"""Of one file; a look that needs more is not remembered."""


def recall(key: Sequence[str]) -> dict[str, Any] | None:
    """What is remembered under a key; None if there is nothing, or nothing that can be read."""
    path = _path(key)
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        os.utime(path)  # the files that nobody asks for go first
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def remember(key: Sequence[str], found: dict[str, Any]) -> None:
    """Keep something under a key, if there is a place to write to."""
    path, text = _path(key), json.dumps(found, separators=(",", ":"))
    if path is None or len(text) > MAX_BYTES:
        return
    with contextlib.suppress(StorageError, OSError):
        write_text(path, text)
        remove_litter(path.parent)
        files = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[MAX_FILES:]:
            file.unlink()


def listing(root: Path, folders: Iterable[str]) -> str:
    """Identity of the names, sizes and times of the files in some folders below ``root``, 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in sorted(folders):
        digest.update(f"{folder}\0".encode("utf-8", "surrogatepass"))
        try:
            with os.scandir(root / folder) as found:
                lines = sorted(line for entry in found if (line := _line(entry)) is not None)
        except (OSError, ValueError):
            lines = ["-"]
        digest.update("\0".join([*lines, ""]).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _line(entry: os.DirEntry[str]) -> str | None:
    """Name, size and time of a file, behind a link those of what it leads to; None for a folder."""
    try:
        if entry.is_dir():
            return None
        found = entry.stat()
    except OSError:
        return f"{entry.name}/-"
    return f"{entry.name}/{found.st_size}/{found.st_mtime_ns}"


def _path(key: Sequence[str]) -> Path | None:
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody's home
        return None
    name = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:32]
    return base / "syncvis" / "looks" / f"{name}.json" if base.is_absolute() else None
