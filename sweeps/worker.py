"""One worker process: claim a cell, have it run in a child process, wait for its end; until nothing is left.

``syncvis sweep work STUDY`` starts one by hand, on any machine that reaches the database and the run folders.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerProcess

from sweeps import trial
from sweeps.identity import this_process
from sweeps.ledger import Claim, Ledger
from sweeps.plugins import require_plugins
from sweeps.ranks import together
from sweeps.signals import StopSignal, held_signals, stop_signal
from sweeps.trial import LEASE_SECONDS, RUN, Order, check_run, load_run, preloaded
from sweeps.view import Keys, StudyKey
from syncvis import gpus
from syncvis.errors import Interrupted, WorkbenchError
from syncvis.execution import (
    CHECKPOINT_ACTIVATIONS,
    DETERMINISTIC,
    DEVICE,
    FEATURE_CACHE,
    FEATURE_CACHE_GIB,
    LOADER_WORKERS,
    PLAIN,
    THREADS,
    Execution,
)
from syncvis.references import allow

POLL_SECONDS = 1.0
STORAGE_VARIABLE = "SYNCVIS_STORAGE"
"""Where a worker looks for the ledger's URL if it is not an argument, which everybody on the machine can read."""
ERROR = "error: "
"""Before the last line of a worker that could not work."""
# Of a process whose forking server is gone; it may live, and its lease decides.
UNKNOWN_CODE = 255

DRIVERS = ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "psycopg")
"""What a trial's process needs to reach the ledger; the one that is not installed is passed over."""

Grow = Callable[[], bool]


@dataclass(frozen=True)
class Worker:
    """What one process needs to work through cells.

    Attributes:
        ledger: for this process; ``place`` is where a trial's process opens its own.
        stopped: Whether this worker should end.
        keys: The studies whose cells it may take; None for all.
        grow: Asked when nothing is planned: add a cell to a study that is searched; whether it did.
        limit: End after so many cells, or as soon as none is planned; None works until nothing is left.
        trial_timeout: Seconds that a trial's process may take; one that takes longer has failed. None for no end.
        processes: How many train one trial together.
        sharing: How many workers share the cores of this machine.
    """

    ledger: Ledger
    place: str
    stopped: StopSignal
    keys: Keys = None
    grow: Grow = lambda: False
    run: str = RUN
    execution: Execution = PLAIN
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS
    limit: int | None = None
    processes: int = 1
    sharing: int = 1
    trial_timeout: float | None = None

    def work(self) -> None:
        """Run cells until none is left; waits for cells that others run, in case their process dies.

        Raises:
            Interrupted: This worker was told to stop; its cell was given back.
        """
        me, pause, taken = this_process(), threading.Event(), 0
        while not self._should_end():
            claim = self.ledger.claim(me, self.lease_seconds, self.keys)
            if claim is not None:
                self._have_run(claim)
                taken += 1
                if taken == self.limit:
                    return
            elif not self.grow():
                if self.limit is not None or self.ledger.view.is_over(self.keys):
                    return
                pause.wait(self.poll_seconds)
        raise Interrupted("the worker was told to stop")

    def _should_end(self) -> bool:
        return self.stopped() or self.ledger.view.is_stopping(self.keys)

    def _have_run(self, claim: Claim) -> None:
        process = _start(Order(self.place, claim, self.run, self.execution, self.processes, self.sharing))
        try:
            in_time = self._watch(process, claim)
        finally:
            process.kill()
            process.join()
        if not in_time:
            self.ledger.fail(claim, f"it took longer than {self.trial_timeout:g} s, its time limit (--trial-timeout)")
        elif process.exitcode not in (0, Interrupted.exit_code, UNKNOWN_CODE):
            self.ledger.died(claim, trial.cause_of_death(process.exitcode or 0))

    def _watch(self, process: ForkServerProcess, claim: Claim) -> bool:
        """Return when the trial's process has ended, or should have long ago; False if that is its time limit."""
        asked, over_since, started = False, None, time.monotonic()
        owners = [key for key, _ in self.ledger.view.memberships(claim.cell_hash)]
        while process.is_alive():
            process.join(self.poll_seconds)
            if not process.is_alive():
                break
            if self.trial_timeout is not None and time.monotonic() - started > self.trial_timeout:
                return False
            if not asked and (self._should_end() or self.ledger.view.is_stopping(owners)):
                process.terminate()
                asked = True
            self.ledger.reap()  # its own trial, too, if that has frozen
            if self.ledger.view.is_running(claim.number, claim.attempt):
                continue
            over_since = over_since or time.monotonic()
            if time.monotonic() - over_since > self.lease_seconds:
                break
        return True


def grow(ledger: Ledger, keys: Keys) -> bool:
    """Add the next cell of a study that is searched, if there is one; whether it did."""
    if not ledger.view.may_grow(keys):
        return False
    from sweeps import choosing

    return choosing.grow(ledger, keys)


def _start(order: Order) -> ForkServerProcess:
    """Fork a trial's process from a server that has imported the training once, and does nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded(order.run, *DRIVERS))
    load = load_run if order.processes == 1 else partial(together, processes=order.processes)
    process = context.Process(target=trial.main, args=(order, load), name=f"trial {order.claim.number}")
    with held_signals():
        process.start()
    return process


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeps.worker", description=__doc__)
    parser.add_argument("ledger", nargs="?", help=f"SQLite file or URL; default: from ${STORAGE_VARIABLE}")
    parser.add_argument("--studies", nargs="*", help="names such as nk-small; default: all")
    parser.add_argument("--run", default=RUN, help="module:function that trains a cell")
    parser.add_argument(DEVICE, default=PLAIN.device, help="cpu or cuda")
    parser.add_argument(THREADS, type=int, default=PLAIN.threads, help="CPU threads of each training process")
    parser.add_argument(LOADER_WORKERS, type=int, help="processes that prepare batches, of each training process")
    parser.add_argument(CHECKPOINT_ACTIVATIONS, action="store_true", help="less memory, more time, same result")
    parser.add_argument(DETERMINISTIC, action="store_true", help="the same bits every time, also on a GPU")
    parser.add_argument(FEATURE_CACHE, metavar="FOLDER", help="keep here what a frozen encoder computes of each frame")
    parser.add_argument(FEATURE_CACHE_GIB, type=float, default=PLAIN.feature_cache_gib, help="what it may take, in GiB")
    parser.add_argument("--lease", type=float, default=LEASE_SECONDS, help="seconds of silence before others take over")
    parser.add_argument("--poll", type=float, default=POLL_SECONDS, help="seconds between two looks")
    parser.add_argument("--limit", type=int, help="end after so many cells, or as soon as none is planned")
    parser.add_argument("--processes", type=int, default=1, help="how many train one trial together")
    parser.add_argument("--sharing", type=int, default=1, help="how many workers share the cores of this machine")
    parser.add_argument("--trial-timeout", type=float, help="seconds after which a trial has failed; default: none")
    parser.add_argument("--plugin", action="append", help="a module of your own that trials may import; repeatable")
    parser.add_argument("--parent", type=int, help="stop once this process id is no longer the parent")
    options = parser.parse_args(arguments)
    asked = stop_signal()
    try:
        execution = Execution.from_json(vars(options))
        os.environ.update(execution.environment())
        if execution.on_gpu:
            gpus.require(options.processes)
        place = options.ledger or os.environ.get(STORAGE_VARIABLE)
        if place is None:
            parser.error(f"no ledger: give it, or set {STORAGE_VARIABLE}")
        check_run(options.run)
        allow(options.plugin)
        ledger, keys = Ledger(place), options.studies and [StudyKey.parse(name) for name in options.studies]
        require_plugins(ledger.view, keys)
        Worker(
            ledger,
            str(place),
            lambda: asked() or (options.parent is not None and os.getppid() != options.parent),
            keys,
            lambda: grow(ledger, keys),
            run=options.run,
            execution=execution,
            lease_seconds=options.lease,
            poll_seconds=options.poll,
            limit=options.limit,
            processes=options.processes,
            sharing=options.sharing,
            trial_timeout=options.trial_timeout,
        ).work()
    except WorkbenchError as error:
        print(f"{ERROR}{error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
