"""One sweep from the plan to the end report: workers, W&B mirror, Optuna mirror, progress, interruption."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sweeps.database import psycopg_url
from sweeps.ledger import Ledger
from sweeps.overview import log_of
from sweeps.placement import Placement
from sweeps.placement.local import Pool
from sweeps.placement.orders import WorkerOptions
from sweeps.placement.ray import RaySettings, RayTasks
from sweeps.placement.slurm import SlurmJobs, SlurmSettings
from sweeps.printing import say
from sweeps.progress import Watcher, names_of, progress_of
from sweeps.tracking.environment import LOG, Mode
from sweeps.tracking.notes import number_waiting
from sweeps.tracking.process import MirrorProcess
from sweeps.trial import LEASE_SECONDS, RUN
from sweeps.view import ENDED, StudyKey
from sweeps.worker import POLL_SECONDS
from syncvis.errors import ConfigError, Interrupted, StorageError
from syncvis.execution import PLAIN, Execution
from syncvis.references import allowed

LOOK_SECONDS = 0.5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""All but the first, Ctrl-C, come from batch systems, which send them more than once, and SIGKILL in the end."""
OPTUNA_SECONDS = 30.0
STOPPED_WANDB_SECONDS = 5.0
GAVE_UP_CODE = 5


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is carried out; nothing here changes a result.

    Attributes:
        out: the output tree: runs/, logs/, wandb/, and without ``storage`` ledger.db and optuna.db.
        storage: URL of a PostgreSQL database for the ledger and the Optuna studies.
        workers: processes on this machine, or jobs; None for one per GPU, or per core where no GPU is named.
        gpus: of this machine, to be shared out, as for CUDA_VISIBLE_DEVICES.
        placement: where the workers run; None for this machine.
        processes: how many train one trial together, each on a GPU of its own where there are any.
        run: "module:function" that trains a cell.
        artifacts: give W&B a reference to the weights of every done cell.
        trial_timeout: seconds that one try of a trial may take; one that takes longer has failed. None for no end.
        wandb_seconds: how long the W&B mirror may take to catch up at the end.
    """

    out: Path = Path("outputs")
    storage: str | None = None
    workers: int | None = None
    gpus: tuple[str, ...] = ()
    wandb: Mode = "offline"
    execution: Execution = PLAIN
    run: str = RUN
    lease: float = LEASE_SECONDS
    poll: float = POLL_SECONDS
    wandb_seconds: float = 60.0
    artifacts: bool = False
    placement: SlurmSettings | RaySettings | None = None
    processes: int = 1
    trial_timeout: float | None = None

    @property
    def ledger(self) -> str:
        return self.storage or str(self.out / "ledger.db")

    @property
    def optuna(self) -> str:
        return psycopg_url(self.storage) if self.storage else f"sqlite:///{self.out / 'optuna.db'}"

    @property
    def wandb_folder(self) -> Path:
        return self.out / "wandb"

    @property
    def gpu_groups(self) -> list[str]:
        """What each worker of this machine may use: one GPU for each process of a trial.

        Raises:
            ConfigError: Some would be left over.
        """
        if len(self.gpus) % self.processes:
            problem = f"{len(self.gpus)} GPUs cannot be shared out to trials of {self.processes} processes"
            raise ConfigError(problem, key="--gpus", fix="give a multiple of --processes-per-trial")
        return [",".join(self.gpus[i : i + self.processes]) for i in range(0, len(self.gpus), self.processes)]

    @property
    def size(self) -> int:
        return self.workers or len(self.gpu_groups) or max(1, len(os.sched_getaffinity(0)) // self.processes)


class Sweep:
    """The running of some studies of a ledger by workers of this machine."""

    def __init__(self, ledger: Ledger, keys: Sequence[StudyKey], options: SweepOptions, console: Console):
        self._ledger, self._view, self._keys = ledger, ledger.view, list(keys)
        self._options, self._console = options, console
        self._said: set[str] = set()

    def run(self) -> int:
        """Run what is left.

        Returns:
            0 when everything wanted is done, 5 when cells were given up.

        Raises:
            Interrupted: On Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2, after the workers stored their checkpoints.
            StorageError: The workers cannot work.
        """
        with self._mirrored_to_wandb():
            self.work()
        self._mirror_to_optuna()
        return self._report()

    def work(self) -> None:
        """Have the workers end every cell; starts none if they have. Raises as :meth:`run` does."""
        if not self._something_left():
            return
        with stop_requests() as requests, progress_of(self._console, self._view.counts(self._keys)) as progress:
            watcher = Watcher(self._view, self._keys)
            pool = self._place_workers()
            self._say_once(f"workers {pool.where}")
            try:
                mirrored = time.monotonic()
                while pool.alive() if requests else pool.tend():
                    self._obey(requests, pool)
                    progress.update(watcher.look())
                    if time.monotonic() - mirrored > OPTUNA_SECONDS:
                        self._mirror_to_optuna()
                        mirrored = time.monotonic()
                    time.sleep(LOOK_SECONDS)
                progress.update(watcher.look())
            finally:
                pool.kill()
        if requests:
            self._raise_if_unfinished()

    def _place_workers(self) -> Placement:
        options, ledger, keys = self._options, self._ledger, self._keys
        times = options.lease, options.poll, options.processes, options.trial_timeout
        orders = WorkerOptions(
            options.ledger, options.out / "logs", options.run, options.execution, options.gpu_groups, *times, allowed()
        )
        if isinstance(options.placement, SlurmSettings):
            return SlurmJobs(orders, options.placement, options.size, ledger, keys, options.out / "slurm")
        if isinstance(options.placement, RaySettings):
            return RayTasks(orders, options.placement, options.workers, ledger, keys)
        return Pool(orders, options.size, keys, lambda: self._view.number_of_claims(keys))

    def _obey(self, requests: list[int], pool: Placement) -> None:
        if requests.count(signal.SIGINT) > 1:
            pool.kill()
        elif requests:
            self._say_once("stopping after a checkpoint of each running cell; Ctrl-C again kills them")
            pool.stop()

    def _raise_if_unfinished(self) -> None:
        counts = self._view.counts(self._keys)
        ended, total = sum(counts[state] for state in ENDED), sum(counts.values())
        if ended < total:
            problem = f"stopped with {ended} of {total} cells finished"
            raise Interrupted(problem, fix="run the same command again to continue")

    def _something_left(self) -> bool:
        return not self._view.is_over(self._keys) or self._view.may_grow(self._keys)

    def _mirror_to_optuna(self) -> None:
        """Bring the Optuna studies up to date; a failure is a warning, as the ledger has every result."""
        from sweeps.choosing import mirror_to_optuna

        try:
            mirror_to_optuna(self._view, self._keys, self._options.optuna)
        except StorageError as error:
            self._say_once(f"warning: the Optuna mirror is behind: {error}")

    @contextmanager
    def _mirrored_to_wandb(self) -> Iterator[None]:
        """Run the W&B mirror beside the body, and give it some time to catch up afterwards."""
        options = self._options
        if options.wandb == "disabled" or not (self._waiting() or self._something_left()):
            yield
            return
        mirror = MirrorProcess(options.ledger, options.wandb_folder, options.wandb, self._keys, options.artifacts)
        seconds = STOPPED_WANDB_SECONDS
        try:
            yield
            seconds = options.wandb_seconds
        finally:
            mirror.close(seconds)
            waiting = self._waiting()
            if waiting:
                log = options.wandb_folder / LOG
                self._say_once(f"warning: W&B lacks {waiting} finished runs (see {log}); the next sweep copies them")

    def _waiting(self) -> int:
        return number_waiting(self._view, self._options.wandb_folder, self._keys)

    def _report(self) -> int:
        """Print what was done, what was given up and why, and where everything is."""
        options, counts, console = self._options, self._view.counts(self._keys), self._console
        given_up = self._view.cells(self._keys, ["gave_up"])
        names = names_of(self._view, given_up)
        pruned = f", {counts['pruned']} pruned" if counts["pruned"] else ""
        failed = f", {len(given_up)} given up:" if given_up else ""
        say(console, f"{counts['done']} of {sum(counts.values())} cells done{pruned}{failed}")
        for row in given_up:
            say(console, f"  trial {row['number']}, {names[row['cell_hash']]}: {row['error']} ({log_of(row)})")
        say(console, f"ledger  {self._view.place}")
        say(console, f"runs    {options.out / 'runs'}")
        studies = ", ".join(key.name for key in self._keys)
        elsewhere = "" if options.out == SweepOptions.out else f" --out {shlex.quote(str(options.out))}"
        say(console, f"Optuna  {studies}: syncvis sweep dashboard{elsewhere}")
        if options.wandb != "disabled":
            folder = shlex.quote(str(options.wandb_folder))
            upload = f"; syncvis sweep sync{elsewhere} uploads them" * (options.wandb == "offline")
            say(console, f"W&B     wandb leet {folder} (curves in the terminal, no account){upload}")
        if given_up:
            say(console, "try the given up cells again with --retry")
        return GAVE_UP_CODE if given_up else 0

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            say(self._console, text)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list of the signals that asked to stop: Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2."""
    requests: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        for number in before:
            signal.signal(number, lambda number, _: requests.append(number))
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
