"""Writing files so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syncvis.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Call ``write`` on a temporary neighbour, flush it to the disk and move it over ``path``.

    Args:
        keep: name that the old file moves to, once the new one is whole.

    Raises:
        StorageError: The folder cannot be written to; the old file is then untouched.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Replace the text of a file; missing folders are made."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of a file; missing folders are made."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def append_line(path: Path, line: str) -> None:
    """Add a line in one write, so that lines of several processes do not mix.

    Raises:
        StorageError: It was not written, or only a part of it.
    """
    data = (line + "\n").encode()
    try:
        with path.open("ab", buffering=0) as stream:
            if stream.write(data) < len(data):  # a full disk takes a part and says nothing
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise not_written(path, error) from None


def not_written(path: Path, error: OSError) -> StorageError:
    """What the user is told of a failed write."""
    full = error.errno in FULL
    problem = "the disk is full" if full else error.strerror or type(error).__name__
    fix = "free disk space and run the same command again" if full else "choose another place or mend its rights"
    return StorageError(f"cannot be written ({problem})", file=path, fix=fix)


def fingerprint(path: Path) -> str:
    """Identity of a file's content, 16 hex digits: the beginning of its SHA-256.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as error:
        raise StorageError(
            f"cannot be read ({error.strerror})", file=path, fix="put it back or mend its rights"
        ) from None


def require_writable(folder: Path) -> None:
    """Make a folder, and a file in it that is removed again.

    Raises:
        StorageError: It cannot be made, or nothing can be written into it.
    """
    probe = _temporary(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise not_written(folder, error) from None


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Raises StorageError if the disk of a folder has less than ``size`` bytes left, needed for the ``purpose``."""
    free = shutil.disk_usage(folder).free
    if free < size:
        problem = f"the disk has {_mib(free)} left, and {purpose} need {_mib(size)}"
        raise StorageError(problem, file=folder, fix="free disk space or choose another place")


def remove_litter(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder: those of no process, or of this one."""
    for path in folder.glob(".*.tmp"):
        writer = writer_of(path)
        if writer is not None and (writer == os.getpid() or not is_alive(writer)):
            with contextlib.suppress(OSError):
                path.unlink()


def writer_of(path: Path) -> int | None:
    """The process that a temporary file of this module is named after; None if it is no such file."""
    match = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
    return int(match[1]) if match else None


def is_alive(process: int) -> bool:
    """Whether there is such a process on this machine, whoever runs it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def finite(tree: Any) -> Any:
    """JSON data with null for NaN and infinities, which JSON does not have and strict readers refuse."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _temporary(path: Path) -> Path:
    """A hidden neighbour that names its writer, see :func:`writer_of`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
