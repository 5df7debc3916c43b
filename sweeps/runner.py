"""One sweep from the plan to the end report: workers, W&B mirror, Optuna mirror, progress, interruption."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from sweeps import tracking
from sweeps.experiment import Cell, Experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.pool import Pool, WorkerOptions
from sweeps.progress import Progress, cell_names, has_ended, progress_of
from sweeps.worker import LEASE_SECONDS, POLL_SECONDS, RUN
from syncvis.errors import Interrupted, StorageError

Sampler = Literal["grid", "tpe", "random"]
LOOK_SECONDS = 0.5
OPTUNA_SECONDS = 30.0
STOPPED_WANDB_SECONDS = 5.0
GAVE_UP_CODE = 5


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is carried out; nothing here changes a result.

    Attributes:
        out: the output tree: ledger.db, optuna.db, runs/, wandb/.
        workers: processes; None for one per core.
        trials: cells per experiment that a ``tpe`` or ``random`` sampler may run; None for all.
        retry: plan again what was given up before.
        run: "module:function" that trains a cell.
        wandb_seconds: how long the W&B mirror may take to catch up at the end.
    """

    out: Path = Path("outputs")
    workers: int | None = None
    wandb: tracking.Mode = "offline"
    sampler: Sampler = "grid"
    trials: int | None = None
    device: str = "cpu"
    retry: bool = False
    run: str = RUN
    lease: float = LEASE_SECONDS
    poll: float = POLL_SECONDS
    wandb_seconds: float = 60.0

    @property
    def ledger(self) -> Path:
        return self.out / "ledger.db"

    @property
    def optuna(self) -> Path:
        return self.out / "optuna.db"

    @property
    def wandb_folder(self) -> Path:
        return self.out / "wandb"


def run_sweep(experiments: Sequence[Experiment], scale: str, options: SweepOptions, console: Console) -> int:
    """Run what is left of these experiments at one scale.

    Returns:
        0 when everything wanted is done, 5 when cells were given up.

    Raises:
        Interrupted: On Ctrl-C or SIGTERM, after the workers stored their checkpoints.
        ConfigError, StorageError: Before anything is started, or when the workers cannot work.
    """
    planned = [cell for experiment in experiments for cell in plan_cells(experiment, scale)]
    ledger = Ledger(options.ledger)
    ledger.add(planned, options.out / "runs")
    if options.retry:
        ledger.retry([cell.hash for cell in planned])
    sweep = Sweep(ledger, planned, options, console)
    with sweep.mirrored_to_wandb():
        if options.sampler == "grid":
            sweep.run_cells(planned)
        else:
            _search(sweep, ledger, planned, options, options.sampler)
    sweep.mirror_to_optuna()
    return sweep.report()


class Sweep:
    """The running of one plan."""

    def __init__(self, ledger: Ledger, planned: Sequence[Cell], options: SweepOptions, console: Console):
        self._ledger, self._planned, self._options, self._console = ledger, planned, options, console
        self._hashes = list(dict.fromkeys(cell.hash for cell in planned))
        self._said: set[str] = set()

    def run_cells(self, cells: Sequence[Cell]) -> None:
        """Run these cells until each is done or given up; starts nothing if they are.

        Raises:
            Interrupted: The user asked to stop.
        """
        hashes = list(dict.fromkeys(cell.hash for cell in cells))
        states = self._ledger.states(hashes)
        left = sum(not has_ended(row) for row in states.values())
        if not left:
            return
        options = self._options
        size = min(options.workers or len(os.sched_getaffinity(0)), left)
        orders = WorkerOptions(
            options.ledger, options.out / "logs", options.run, options.device, options.lease, options.poll
        )
        with stop_requests() as requests, progress_of(self._console, cells, states) as progress:
            pool = Pool(orders, size, hashes, lambda: self._claims(hashes))
            try:
                self._watch(pool, hashes, requests, progress)
            finally:
                pool.kill()

    def _watch(self, pool: Pool, hashes: list[str], requests: list[int], progress: Progress) -> None:
        mirrored = time.monotonic()
        while pool.alive() if requests else pool.tend():
            if len(requests) > 1:
                pool.kill()
            elif requests:
                self._say_once("stopping after a checkpoint of each running cell; Ctrl-C again kills them")
                pool.stop()
            self._show(hashes, progress)
            if time.monotonic() - mirrored > OPTUNA_SECONDS:
                self.mirror_to_optuna()
                mirrored = time.monotonic()
            time.sleep(LOOK_SECONDS)
        self._show(hashes, progress)
        ended = sum(has_ended(row) for row in self._ledger.states(hashes).values())
        if requests and ended < len(hashes):
            problem = f"stopped with {ended} of {len(hashes)} cells finished"
            raise Interrupted(problem, fix="run the same command again to continue")

    def _show(self, hashes: list[str], progress: Progress) -> None:
        states = self._ledger.states(hashes)
        progress.update(states, lambda done: self._ledger.results(done))

    def _claims(self, hashes: list[str]) -> int:
        return sum(row["attempt"] for row in self._ledger.states(hashes).values())

    def mirror_to_optuna(self) -> None:
        """Bring the Optuna studies up to date; a failure is a warning, as the ledger has every result."""
        from sweeps.study import mirror

        try:
            mirror(self._ledger, self._planned, self._options.optuna)
        except StorageError as error:
            self._say_once(f"warning: the Optuna mirror is behind: {error}")

    @contextmanager
    def mirrored_to_wandb(self) -> Iterator[None]:
        """Run the W&B mirror beside the body, and give it some time to catch up afterwards."""
        options = self._options
        rows = self._ledger.states(self._hashes).values()
        if options.wandb == "disabled" or not (self._waiting() or any(not has_ended(row) for row in rows)):
            yield
            return
        process = tracking.start_mirror(options.ledger, options.wandb_folder, options.wandb, self._hashes)
        seconds = STOPPED_WANDB_SECONDS
        try:
            yield
            seconds = options.wandb_seconds
        finally:
            tracking.end_mirror(process, seconds)
            waiting = self._waiting()
            if waiting:
                log = options.wandb_folder / "mirror.log"
                self._say_once(f"warning: W&B lacks {waiting} finished runs (see {log}); the next sweep copies them")

    def _waiting(self) -> int:
        done = [row for row in self._ledger.states(self._hashes).values() if row["state"] == "done"]
        return sum(tracking.is_waiting(Path(row["run_dir"])) for row in done)

    def report(self) -> int:
        """Print what was done, what was given up and why, and where everything is."""
        states, names, options = self._ledger.states(self._hashes), cell_names(self._planned), self._options
        given_up = [row for row in states.values() if row["state"] == "gave_up"]
        done = sum(row["state"] == "done" for row in states.values())
        self._print(f"{done} of {len(states)} cells done" + (f", {len(given_up)} given up:" if given_up else ""))
        for row in given_up:
            log = Path(row["run_dir"]) / "error.log"
            self._print(f"  {names[row['cell_hash']]}: {row['error']} ({log})")
        studies = dict.fromkeys(f"{cell.experiment}-{cell.scale}" for cell in self._planned)
        self._print(f"ledger  {options.ledger}")
        self._print(f"runs    {options.out / 'runs'}")
        self._print(f"Optuna  {', '.join(studies)}: optuna-dashboard sqlite:///{options.optuna}")
        if options.wandb != "disabled":
            sync = f": wandb sync {options.wandb_folder}/offline-run-*" if options.wandb == "offline" else ""
            self._print(f"W&B     {options.wandb_folder}{sync}")
        if given_up:
            self._print("try the given up cells again with --retry")
        return GAVE_UP_CODE if given_up else 0

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._print(text)


def _search(
    sweep: Sweep,
    ledger: Ledger,
    planned: Sequence[Cell],
    options: SweepOptions,
    sampler: Literal["tpe", "random"],
) -> None:
    from sweeps.study import search

    batch = options.workers or len(os.sched_getaffinity(0))
    for experiment in dict.fromkeys(cell.experiment for cell in planned):
        cells = [cell for cell in planned if cell.experiment == experiment]
        search(ledger, cells, sampler, options.trials or len(cells), sweep.run_cells, batch)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that grows by one with every Ctrl-C or SIGTERM."""
    requests: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda number, _: requests.append(number))
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
