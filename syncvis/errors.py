"""What can go wrong on purpose: one exception class per kind of fault, each with the exit code the CLI returns."""

from __future__ import annotations

from pathlib import Path


class WorkbenchError(Exception):
    """A fault that the user can mend. Its text is one printable line: ``file: key: what is wrong. Fix: what to do``.

    Args:
        problem: What is wrong, without the place.
        file: The file (or data source) it was found in.
        key: The key, id or frame inside that file.
        fix: What the user can do about it.

    Attributes:
        what: The place and what is wrong, without what to do.
    """

    exit_code = 1

    def __init__(self, problem: str, *, file: str | Path | None = None, key: str | None = None, fix: str | None = None):
        place = ": ".join(str(part) for part in (file, key) if part not in (None, ""))
        self.what = f"{place}: {problem}" if place else problem
        super().__init__(one_line(f"{self.what.rstrip('.')}. Fix: {fix}" if fix else self.what))
        self.problem, self.file, self.key, self.fix = problem, file, key, fix


def one_line(text: str) -> str:
    """Escapes for what would break the line or steer a terminal, such as a name in a damaged file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ConfigError(WorkbenchError):
    """A configuration or command line that cannot be meant as written."""

    exit_code = 2


class MissingDependencyError(WorkbenchError, ImportError):
    """An optional package that is not installed, and how to get it."""

    exit_code = 2


class DataError(WorkbenchError):
    """Images, annotations or results that are damaged or do not fit together."""

    exit_code = 3


class StorageError(WorkbenchError):
    """A database, checkpoint or output folder that cannot be read or written."""

    exit_code = 4


class NonFiniteLossError(WorkbenchError):
    """The loss became NaN or infinite."""

    exit_code = 6


class Interrupted(WorkbenchError):
    """The run was asked to stop; its checkpoint is on disk and the same command continues it."""

    exit_code = 75
