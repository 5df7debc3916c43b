"""SLURM through submitit: an array of jobs, each a worker that hands its cell on when SLURM takes its node away.

SLURM announces the end of a job (preemption or time limit) with SIGUSR2. Then the trial stores a checkpoint, its cell
is planned again, and the job is queued again under its number; whichever worker comes first goes on with that cell.
"""

from __future__ import annotations

import difflib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from sweeps.ledger import Ledger
from sweeps.placement.orders import Deaths, RemoteWorker, WorkerOptions, remote_worker, require_server
from sweeps.view import StudyKey
from sweeps.worker import STORAGE_VARIABLE
from syncvis.errors import ConfigError, Interrupted, MissingDependencyError

if TYPE_CHECKING:
    import submitit

MAX_TIMEOUTS = 1000
"""How often one job may reach its time limit and be queued again: as often as it takes."""
PREEMPTED_SECONDS = 600.0
"""A job that is PREEMPTED for so long will not be queued again."""
ENDING_SECONDS = 30.0
"""How long jobs may take to notice that nothing is left."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class SlurmSettings:
    """What each job asks SLURM for: ``--slurm KEY=VALUE`` of every field.

    Attributes:
        cluster: "local" starts the jobs as processes of this machine, to try everything without SLURM.
        time: minutes until a job is stopped and queued again; from 15 on, preemptions do not count as such stops.
        setup: shell commands that run before the worker, such as "module load cuda".
        signal_delay_s: seconds between the announcement of the time limit and the end: a checkpoint must fit in.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    time: int = 240
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    mem_gb: float | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    setup: tuple[str, ...] = ()
    signal_delay_s: int = 90

    @classmethod
    def parse(cls, words: Sequence[str]) -> SlurmSettings:
        """From KEY=VALUE words; ``setup`` may come several times. Raises ConfigError for anything else."""
        found: dict[str, Any] = {}
        known = [field.name for field in fields(cls)]
        for word in words:
            key, is_pair, value = word.partition("=")
            if not is_pair or key not in known:
                close = difflib.get_close_matches(key, known, 1) or known
                problem = f"{word!r} is no KEY=VALUE of a SLURM job"
                raise ConfigError(problem, key="--slurm", fix=f"use {', '.join(close)}")
            found[key] = (*found.get(key, ()), value) if key == "setup" else value
        try:
            return TypeAdapter(cls).validate_python(found)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{name}={first['input']}: {first['msg']}", key="--slurm") from None

    @property
    def gpus(self) -> int:
        """GPUs of a job: ``gpus_per_node``, or those of ``gres`` ("gpu:8", "gpu:a100:4", "gpu")."""
        parts = [part.partition("(")[0].split(":") for part in (self.gres or "").split(",")]
        numbers = [words[-1] for words in parts if words[0] == "gpu"]
        return self.gpus_per_node or sum(int(number) if number.isdecimal() else 1 for number in numbers)

    def parameters(self) -> dict[str, Any]:
        """As submitit's AutoExecutor names them."""
        shared = {"timeout_min": self.time, "cpus_per_task": self.cpus_per_task, "mem_gb": self.mem_gb}
        shared |= {"gpus_per_node": self.gpus_per_node or None}
        names = "partition", "account", "qos", "constraint", "gres", "signal_delay_s"
        own = {f"slurm_{name}": getattr(self, name) for name in names}
        own |= {"slurm_setup": list(self.setup) or None}
        return {name: value for name, value in (shared | own).items() if value is not None}


class WorkerJob:
    """What a job does: run a worker to its end. It is pickled, and holds no password.

    The worker is a process of its own: a signal to the job can then stop it, and wait for it, at any moment.
    """

    def __init__(self, worker: RemoteWorker):
        self._worker = worker
        self._process: subprocess.Popen[str] | None = None

    def __call__(self) -> int:
        """The worker's exit code: 0 when nothing is left, 75 when the ledger told it to stop.

        Raises:
            SystemExit: SLURM ends the job with SIGTERM, which the worker got, too. The job leaves no result then:
                SLURM alone knows whether it is queued again.
            RuntimeError: The worker ended in any other way.
        """
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        self._process = self._worker.start()
        while (code := self._process.poll()) is None:
            time.sleep(POLL_SECONDS)
        if code not in (0, Interrupted.exit_code):
            raise RuntimeError(f"the worker ended with code {code}")
        if told:
            sys.exit(code)
        return code

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when SLURM announces the end, in the middle of ``__call__``: give the cell back."""
        import submitit

        # A worker that is being started at this moment ends by itself when it finds this process gone.
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            # Popen.wait could wait for the lock of the poll that was just interrupted: for ever
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(WorkerJob(self._worker))


class SlurmJobs:
    """``size`` jobs that work on some studies; failed ones are replaced.

    Raises:
        ConfigError: SLURM, or its accounting, cannot be used from here; or the ledger is a file.
        MissingDependencyError: submitit is not installed.
    """

    def __init__(
        self,
        options: WorkerOptions,
        settings: SlurmSettings,
        size: int,
        ledger: Ledger,
        keys: Sequence[StudyKey],
        folder: Path,
    ):
        if settings.cluster == "slurm":
            require_server(options.storage, "SLURM")
            _require_slurm()
        self._ledger, self._keys, self._folder, self._cluster = ledger, list(keys), folder, settings.cluster
        self._executor = _executor(settings, folder, f"syncvis-{keys[0].name}")
        sharing = size if settings.cluster == "local" else 1  # a job of SLURM has cores of its own
        self._worker = remote_worker(replace(options, sharing=sharing), keys, folder, None)
        self._deaths = Deaths(lambda: ledger.view.number_of_claims(keys))
        self._preempted: dict[str, float] = {}
        self._stopping = False
        self._over_since: float | None = None
        self._jobs = self._submit(size)

    @property
    def where(self) -> str:
        kind = "SLURM jobs" if self._cluster == "slurm" else "jobs that are processes of this machine"
        return f"{len(self._jobs)}, as {kind} ({self._jobs[0].job_id} ...; logs in {self._folder})"

    def tend(self) -> bool:
        ended = [job for job in self._jobs if self._has_ended(job)]
        self._jobs = [job for job in self._jobs if job not in ended]
        if self._ledger.view.is_over(self._keys) and not self._ledger.view.may_grow(self._keys):
            return self._wind_up()
        lost = [job for job in ended if self._died(job)]
        if lost:
            self._jobs += self._submit(len(lost))
        if not self._jobs:
            problem = "all SLURM jobs were cancelled or taken away before the work was done"
            raise Interrupted(problem, file=self._folder, fix="run the same command again to continue")
        return True

    def alive(self) -> bool:
        return not all(self._has_ended(job) for job in self._jobs)

    def stop(self) -> None:
        """Asked through the ledger, which also reaches jobs that are started later; those that wait are cancelled."""
        if self._stopping:
            return
        self._stopping = True
        self._ledger.stop(self._keys)
        self._cancel_waiting()

    def kill(self) -> None:
        for job in self._jobs:
            if not self._has_ended(job):
                job.cancel(check=False)
        self._worker.storage.unlink(missing_ok=True)

    def _wind_up(self) -> bool:
        """Let jobs end by themselves when all cells are done, for a while."""
        if self._over_since is None:
            self._over_since = time.monotonic()
            self._cancel_waiting()
        return self.alive() and time.monotonic() - self._over_since < ENDING_SECONDS

    def _cancel_waiting(self) -> None:
        for job in self._jobs:
            if job.state in ("PENDING", "REQUEUED"):
                job.cancel(check=False)

    def _submit(self, number: int) -> list[submitit.Job[int]]:
        with _without(STORAGE_VARIABLE), self._executor.batch():
            return [self._executor.submit(WorkerJob(self._worker)) for _ in range(number)]

    def _has_ended(self, job: submitit.Job[int]) -> bool:
        """By its result file, or by what SLURM said when it was last asked: submitit asks ever more rarely."""
        if job.done():
            return True
        if job.state != "PREEMPTED":  # queued again, most of the time
            self._preempted.pop(job.job_id, None)
            return False
        since = self._preempted.setdefault(job.job_id, time.monotonic())
        return time.monotonic() - since > PREEMPTED_SECONDS

    def _died(self, job: submitit.Job[int]) -> bool:
        """Whether an ended job should be replaced: it failed, or was stopped by somebody else than us.

        Raises:
            WorkbenchError: Too many in a row died before they took a cell.
        """
        if job.state.startswith("CANCELLED"):
            return False
        reason = job.state
        if job.paths.result_pickle.exists():
            error = job.exception()
            if error is None and job.result() == 0:
                return False
            reason = "FAILED" if error else "stopped"
        self._deaths.count(f"SLURM jobs end ({reason})", job.paths.stderr)
        return True


@contextmanager
def _without(variable: str) -> Iterator[None]:
    """sbatch hands the environment on, and SLURM keeps it in files of its own: no place for a password."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def _executor(settings: SlurmSettings, folder: Path, name: str) -> submitit.AutoExecutor:
    try:
        import submitit
    except ImportError:
        problem = "submitit is not installed"
        raise MissingDependencyError(
            problem, key="--placement slurm", fix="in a clone: pip install -e '.[slurm]'"
        ) from None
    times = {f"{settings.cluster}_max_num_timeout": MAX_TIMEOUTS}
    executor = submitit.AutoExecutor(folder / "%j", cluster=settings.cluster, **times)
    executor.update_parameters(name=name, **settings.parameters())
    return executor


def _require_slurm() -> None:
    """submitit asks ``sacct``, and would wait for minutes where that cannot answer."""
    for command in ("sbatch", "srun", "scontrol"):
        if shutil.which(command) is None:
            problem = f"{command} is not there"
            raise ConfigError(problem, key="--placement slurm", fix="run this on a login node of a SLURM cluster")
    fix = "switch SLURM's accounting on, or put the stand-in of tests/slurm_node.py into PATH"
    try:
        done = subprocess.run(["sacct", "--noheader", "-j", "1"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"sacct does not answer ({error})", key="--placement slurm", fix=fix) from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        raise ConfigError(f"sacct does not answer ({reason})", key="--placement slurm", fix=fix)
