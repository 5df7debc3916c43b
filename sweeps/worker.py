"""One worker process: claim a cell, run it while renewing the lease, store its result; until nothing is left.

``python -m sweeps.worker LEDGER`` works alone too, e.g. one per GPU or as a batch job on a shared disk.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.identity import this_worker
from sweeps.ledger import Claim, Fenced, Ledger
from syncvis.config import RunConfig
from syncvis.errors import (
    ConfigError,
    DataError,
    Interrupted,
    NonFiniteLossError,
    StorageError,
    WorkbenchError,
)

RUN = "syncvis.training.run:run"
LEASE_SECONDS = 60.0
POLL_SECONDS = 1.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# Errors that come again however often the cell is run.
DETERMINISTIC = (ConfigError, DataError, NonFiniteLossError)

StopSignal = Callable[[], bool]
RunCell = Callable[[RunConfig, Path, StopSignal], dict[str, Any]]


@dataclass(frozen=True)
class Worker:
    """What one process needs to work through cells.

    Attributes:
        run: Trains one cell into a folder and returns its result as JSON types; raises Interrupted when its
            stop signal becomes true.
        stopped: Whether this worker should end.
        among: Hashes of the cells it may take; None for all.
    """

    ledger: Ledger
    run: RunCell
    stopped: StopSignal
    among: Sequence[str] | None = None
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS

    def work(self) -> None:
        """Run cells until none is left; waits for cells that others run, in case their worker dies.

        Raises:
            Interrupted: This worker was told to stop; its cell was given back.
        """
        me = this_worker()
        pause = threading.Event()
        while not self.stopped():
            claim = self.ledger.claim(me, self.lease_seconds, self.among)
            if claim is not None:
                self._run(claim)
            elif self._nothing_left():
                return
            else:
                pause.wait(self.poll_seconds)
        raise Interrupted("the worker was told to stop")

    def _run(self, claim: Claim) -> None:
        with _heartbeat(self.ledger, claim) as lost:
            try:
                config = RunConfig.model_validate_json(claim.config)
                result = self.run(config, claim.run_dir, lambda: lost.is_set() or self.stopped())
                self.ledger.finish(claim, result)
            except Fenced:
                return
            except Interrupted:
                self.ledger.release(claim)
                if not lost.is_set():
                    raise
            except Exception as error:  # whatever a cell does, the other cells go on
                _keep_traceback(claim.run_dir)
                self.ledger.fail(claim, _one_line(error), final=isinstance(error, DETERMINISTIC))

    def _nothing_left(self) -> bool:
        rows = self.ledger.states(self.among).values()
        return all(row["state"] in ("done", "gave_up") for row in rows)


@contextmanager
def _heartbeat(ledger: Ledger, claim: Claim) -> Iterator[threading.Event]:
    """Renew the lease from a thread; the event says that the cell was lost to somebody else."""
    lost, over = threading.Event(), threading.Event()

    def beat() -> None:
        while not over.wait(claim.lease_seconds / 4):
            try:
                if not ledger.beat(claim):
                    lost.set()
                    return
            except StorageError as error:  # the next beat may succeed; if none does, the lease decides
                print(error, file=sys.stderr, flush=True)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()


def _keep_traceback(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "error.log").write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        print(f"{run_dir}: error.log was not written ({error.strerror})", file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {text}"


def load_run(name: str, device: str) -> RunCell:
    """The run function "module:function"; the module also holds its ``Runtime``.

    Raises:
        ConfigError: There is no such function.
    """
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
        run, runtime = getattr(module, function), module.Runtime
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"no run function {name!r} ({error})", fix="give it as module:function") from None

    def run_cell(config: RunConfig, out: Path, should_stop: StopSignal) -> dict[str, Any]:
        result: dict[str, Any] = run(config, out, runtime(device=device, should_stop=should_stop)).to_json()
        return result

    return run_cell


def stop_signal(parent: int | None) -> StopSignal:
    """True from the first SIGTERM, SIGINT or SIGUSR1 on, or once the ``parent`` process is gone."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: asked.set())
    return lambda: asked.is_set() or (parent is not None and os.getppid() != parent)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeps.worker", description=__doc__)
    parser.add_argument("ledger", help="SQLite file or database URL")
    parser.add_argument("--cells", help="hashes, separated by commas; default: all cells")
    parser.add_argument("--run", default=RUN, help="module:function that trains a cell")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--lease",
        type=float,
        default=LEASE_SECONDS,
        help="seconds of silence before others take over",
    )
    parser.add_argument("--poll", type=float, default=POLL_SECONDS, help="seconds between two looks")
    parser.add_argument("--parent", type=int, help="stop once this process id is no longer the parent")
    options = parser.parse_args(arguments)
    stopped = stop_signal(options.parent)
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    among = options.cells.split(",") if options.cells else None
    try:
        ledger = Ledger(options.ledger)
        run = load_run(options.run, options.device)
        Worker(ledger, run, stopped, among, options.lease, options.poll).work()
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
