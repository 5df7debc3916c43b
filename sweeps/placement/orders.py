"""What a worker is told, wherever it runs, and how often workers may die."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sweeps.trial import LEASE_SECONDS, RUN
from sweeps.view import StudyKey
from sweeps.worker import ERROR, POLL_SECONDS, STORAGE_VARIABLE
from syncvis.errors import ConfigError, DataError, StorageError, WorkbenchError
from syncvis.execution import PLAIN, Execution

# Workers that die so often in a row before they take a cell will not do better next time.
MAX_IDLE_DEATHS = 3


@dataclass(frozen=True)
class WorkerOptions:
    """What every worker of a sweep is told.

    Attributes:
        storage: SQLite file or URL of the ledger; no word of a command, as it may hold a password.
        gpus: what each worker of this machine may use, as for CUDA_VISIBLE_DEVICES ("0" or "0,1"), shared out in turn.
        processes: how many train one trial together.
        sharing: how many workers share the cores of their machine; each placement says it.
        trial_timeout: seconds after which a trial has failed; None for no end.
        plugins: modules of one's own that trials may import.
    """

    storage: str
    logs: Path
    run: str = RUN
    execution: Execution = PLAIN
    gpus: Sequence[str] = ()
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS
    processes: int = 1
    trial_timeout: float | None = None
    plugins: Sequence[str] = ()
    sharing: int = 1

    def words(self, keys: Sequence[StudyKey], limit: int | None = None) -> tuple[str, ...]:
        """Of ``python -m sweeps.worker``."""
        words = ["--studies", *(key.name for key in keys), "--run", self.run, *self.execution.words()]
        words += ["--lease", str(self.lease_seconds), "--poll", str(self.poll_seconds)]
        words += ["--sharing", str(self.sharing), "--processes", str(self.processes)]
        words += [] if self.trial_timeout is None else ["--trial-timeout", str(self.trial_timeout)]
        words += [word for module in self.plugins for word in ("--plugin", module)]
        return tuple(words if limit is None else [*words, "--limit", str(limit)])


def start_worker(
    words: Sequence[str],
    storage: str,
    output: IO[str] | int | None = None,
    folder: Path | None = None,
    gpus: str | None = None,
    own_group: bool = False,
) -> subprocess.Popen[str]:
    """Start ``python -m sweeps.worker`` here, as a child that ends when this process does.

    Args:
        storage: handed on in the environment, see :class:`WorkerOptions`.
        output: where it prints; None for where this process does.
        folder: where it works; None for where this process does.
        gpus: as for CUDA_VISIBLE_DEVICES; None for those of this process.
        own_group: whether it gets a process group of its own, so that Ctrl-C does not reach it.
    """
    environment = {**os.environ, STORAGE_VARIABLE: storage}
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.worker", *words, "--parent", str(os.getpid())],
        cwd=folder,
        env=environment if gpus is None else environment | {"CUDA_VISIBLE_DEVICES": gpus},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        process_group=0 if own_group else None,
        text=True,
    )


@dataclass(frozen=True)
class RemoteWorker:
    """A worker that any machine can start which sees this one's files; holds no password, so it may be pickled.

    Attributes:
        words: of ``python -m sweeps.worker``.
        folder: where it works: paths in the ledger may be relative.
        storage: a file that only the user can read, with the ledger's URL.
    """

    words: tuple[str, ...]
    folder: Path
    storage: Path

    def start(self, output: int | None = None) -> subprocess.Popen[str]:
        """See :func:`start_worker`."""
        return start_worker(self.words, self.storage.read_text(encoding="utf-8"), output, self.folder)


def remote_worker(options: WorkerOptions, keys: Sequence[StudyKey], folder: Path, limit: int | None) -> RemoteWorker:
    """Leaves the file with the URL in ``folder``, which all machines must share; whoever asks removes it in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="storage-", dir=folder)  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        place = options.storage if "://" in options.storage else Path(options.storage).absolute()
        file.write(str(place))
    return RemoteWorker(options.words(keys, limit), Path.cwd(), Path(name).absolute())


def require_server(storage: str, placement: str) -> None:
    """Raise ConfigError if the ledger is a SQLite file, which only processes of one machine may share."""
    if "://" not in storage or storage.startswith("sqlite"):
        problem = f"a SQLite file cannot be shared by the machines of {placement}"
        raise ConfigError(problem, key="--storage", fix="give --storage postgresql://USER@HOST/DATABASE")


class Deaths:
    """Counts workers that died, and gives up when several in a row took no cell.

    Args:
        claims: How many claims the studies have seen so far: it tells a worker that died in a cell from one that
            never took any.
    """

    def __init__(self, claims: Callable[[], int]):
        self._claims, self._seen, self._idle = claims, claims(), 0

    def count(self, reason: str, log: Path, code: int = 1) -> None:
        """Raises the worker's own error, or a WorkbenchError that names its log, when it was one too many."""
        claims = self._claims()
        self._idle = self._idle + 1 if claims == self._seen else 1
        self._seen = claims
        if self._idle > MAX_IDLE_DEATHS:
            kinds = (kind for kind in (ConfigError, DataError, StorageError) if kind.exit_code == code)
            kind, said = next(kinds, WorkbenchError), _last_line(log)
            if kind is not WorkbenchError and said.startswith(ERROR):
                raise kind(said.removeprefix(ERROR))
            raise kind(f"{reason} before they take a cell", file=log, fix="read the end of that file")


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        return (log.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[-1]
    return ""
