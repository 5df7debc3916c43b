"""One trial: the run of a claimed cell, in a process of its own so that its crash costs nothing else.

The process keeps the lease alive, hands every metric row to the ledger before anybody else sees it, and says in
the end what became of the cell.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.failpoints import failpoint
from sweeps.identity import this_process
from sweeps.ledger import Claim, Fenced, Ledger
from sweeps.signals import StopSignal, stop_signal
from sweeps.sources import keep_source
from syncvis.config import RunConfig
from syncvis.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MissingDependencyError,
    NonFiniteLossError,
    StorageError,
    WorkbenchError,
)
from syncvis.execution import PLAIN, Execution
from syncvis.references import allowed

RUN = "syncvis.training.run:run"
PRELOAD_VARIABLE = "SYNCVIS_PRELOAD"
PLUGINS_VARIABLE = "SYNCVIS_PLUGINS"
"""What a worker tells its own forking server: nobody else reads it."""
LEASE_SECONDS = 60.0
RECORD_SECONDS = 1.0
"""How long a metric row may wait for the ledger; an evaluation's never waits."""
FAULTS_OF_CODE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What Python itself raises for a wrong program. Memory, disks, devices and servers raise other errors."""

LoggedRow = dict[str, float | None]
"""A row of metrics.jsonl: null for a value that is not finite."""
OnRow = Callable[[int, LoggedRow], None]
RunCell = Callable[[RunConfig, Path, StopSignal, OnRow], dict[str, Any]]
LoadRun = Callable[[str, Execution], RunCell]
ShouldPrune = Callable[[Claim], str | None]


class CodeError(WorkbenchError):
    """A fault in the code of a training: it cannot be imported, or one of the processes of a trial met it."""


# Errors of ours that come again however often the cell is run.
DETERMINISTIC = (ConfigError, MissingDependencyError, DataError, NonFiniteLossError, CodeError)


@dataclass(frozen=True)
class Order:
    """What a trial's process is told; it can be pickled.

    Attributes:
        ledger: SQLite file or URL.
        run: "module:function" that trains a cell.
        processes: how many train it together.
        sharing: how many trials share the cores of this machine.
    """

    ledger: str
    claim: Claim
    run: str = RUN
    execution: Execution = PLAIN
    processes: int = 1
    sharing: int = 1

    @property
    def resolved(self) -> Execution:
        """How each process of the trial is carried out on this machine."""
        return self.execution.resolved(self.sharing * self.processes)


def main(order: Order, load: LoadRun) -> None:
    """The life of a trial's process; ends with exit code 75 when the trial was asked to stop."""
    stopped = stop_signal()
    _log_to(order.claim.run_dir / f"attempt-{order.claim.attempt}.log")
    ledger = Ledger(order.ledger, is_open=True)
    keep_source(ledger, order.claim)
    execution = order.resolved
    ledger.keep_execution(order.claim, execution.to_json(), order.processes)
    try:
        run = load(order.run, execution)
    except Exception as error:  # code that cannot even be imported
        _fail(ledger, order.claim, error)
        return
    try:
        carry_out(ledger, order.claim, run, stopped, _pruner(ledger, order.claim))
    except Interrupted as error:
        sys.exit(error.exit_code)


def _pruner(ledger: Ledger, claim: Claim) -> ShouldPrune:
    """What the studies of the cell want to end early; no study, no Optuna."""
    keys = [key for key, _ in ledger.view.memberships(claim.cell_hash)]
    if not any(stored.prunes for stored in ledger.view.studies(keys).values()):
        return lambda claim: None
    from sweeps import choosing

    return lambda claim: choosing.reason_to_prune(ledger, claim)


def carry_out(
    ledger: Ledger, claim: Claim, run: RunCell, stopped: StopSignal, should_prune: ShouldPrune = lambda claim: None
) -> None:
    """Run a claimed cell to its end in the ledger: done, pruned, failed, or given back.

    Args:
        stopped: Whether to end early, after a checkpoint.
        should_prune: Asked after every evaluation that is in the ledger: why the cell is not worth finishing.

    Raises:
        Interrupted: ``stopped`` said so; the cell was given back.
    """
    if not ledger.beat(claim, this_process()):
        return
    failpoint("after_first_beat")
    with _Pulse(ledger, claim).beating() as pulse:
        pruned: list[str] = []

        def on_row(line: int, row: LoggedRow) -> None:
            failpoint("mid_run")
            pulse.rows[line] = json.dumps(row)
            if "eval/AP" in row:
                pulse.record()
                pruned.extend(filter(None, [should_prune(claim)]))

        try:
            config = _config(claim)
            result = run(config, claim.run_dir, lambda: bool(pulse.lost.is_set() or pruned or stopped()), on_row)
            if result["metrics"].get("AP") is None:
                raise NonFiniteLossError("is not a number", key="AP", fix="look at the rows of its metrics.jsonl")
            pulse.record()
            ledger.finish(claim, result)
        except Fenced:
            return
        except Interrupted:
            if pruned:
                ledger.prune(claim, pruned[0])
                return
            ledger.release(claim)
            if not pulse.lost.is_set():
                raise
        except Exception as error:  # whatever a cell does, the other cells go on
            _fail(ledger, claim, error)


def _config(claim: Claim) -> RunConfig:
    """Raises ConfigError where this version makes another run of it, whose result would not be the cell's."""
    config = RunConfig.model_validate_json(claim.config)
    if config.cell_hash != claim.cell_hash:
        problem = f"is another run ({config.cell_hash}) in this version, which has other settings"
        raise ConfigError(problem, file=f"trial {claim.number}", fix="plan the experiment again: syncvis sweep run")
    return config


class _Pulse:
    """Renews the lease and empties the waiting rows into the ledger, from a thread.

    ``lost`` is set once the ledger says that the cell is no longer ours. While the ledger is away nobody else can take
    it, so the trial goes on then.
    """

    def __init__(self, ledger: Ledger, claim: Claim):
        self._ledger, self._claim, self._me = ledger, claim, this_process()
        self._one_at_a_time = threading.Lock()
        self.rows: dict[int, str] = {}
        self.lost = threading.Event()

    def record(self) -> None:
        """Store the waiting rows now; returns when they are in the ledger, or the cell is lost."""
        with self._one_at_a_time:
            waiting = dict(self.rows)
            if not self._ledger.record(self._claim, waiting):
                self.lost.set()
            for line, row in waiting.items():
                if self.rows.get(line) is row:
                    del self.rows[line]

    @contextmanager
    def beating(self) -> Iterator[_Pulse]:
        over = threading.Event()
        thread = threading.Thread(target=self._beat_until, args=(over,), name="pulse", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    def _beat_until(self, over: threading.Event) -> None:
        interval, beaten = self._claim.lease_seconds / 4, time.monotonic()
        while not over.wait(min(RECORD_SECONDS, interval)) and not self.lost.is_set():
            try:
                self.record()
                if time.monotonic() - beaten >= interval:
                    started = time.monotonic()
                    if not self._ledger.beat(self._claim, self._me):
                        self.lost.set()
                    beaten = started
            except StorageError as error:  # the next try may succeed; if none does, the lease decides
                print(error, file=sys.stderr, flush=True)


def _log_to(path: Path) -> None:
    """Send what this process prints to a file, whatever prints it; without one, to where it went before."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        print(f"{path}: cannot be written ({error.strerror})", file=sys.stderr, flush=True)
        return
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)


def _fail(ledger: Ledger, claim: Claim, error: Exception) -> None:
    _keep_traceback(claim.run_dir)
    ledger.fail(claim, one_line(error), final=would_come_again(error))


def _keep_traceback(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "error.log").write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        print(f"{run_dir}: error.log was not written ({error.strerror})", file=sys.stderr, flush=True)


def would_come_again(error: Exception) -> bool:
    """Whether another try of the cell ends in the same way unless somebody changes config, data or code."""
    if isinstance(error, WorkbenchError):
        return isinstance(error, DETERMINISTIC)
    return isinstance(error, FAULTS_OF_CODE)


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {text}"


def cause_of_death(code: int) -> str:
    if code == -9:
        return "its process was killed (signal 9); out of memory?"
    return f"its process died of signal {-code}" if code < 0 else f"its process ended with code {code}"


def check_run(name: str) -> None:
    """Raise ConfigError if there is no such module, without importing it: that takes seconds."""
    module, _, function = name.partition(":")
    try:
        found = bool(function) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ConfigError(f"no run function {name!r}", fix="give it as module:function")


def load_run(name: str, execution: Execution) -> RunCell:
    """The run function "module:function"; the module also holds its ``Runtime``.

    Raises:
        ConfigError: There is no such function.
        CodeError: Its module cannot be imported.
    """
    check_run(name)
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except WorkbenchError:
        raise
    except Exception as error:
        problem = f"cannot be imported: {one_line(error)}"
        raise CodeError(problem, file=module_name, fix="mend the code, then --retry") from error
    try:
        run, runtime = getattr(module, function), module.Runtime
    except AttributeError as error:
        raise ConfigError(f"no run function {name!r} ({error})", fix="give it as module:function") from None

    def run_cell(config: RunConfig, out: Path, should_stop: StopSignal, on_row: OnRow) -> dict[str, Any]:
        told = runtime(**execution.settings(), should_stop=should_stop, on_row=on_row)
        result: dict[str, Any] = run(config, out, told).to_json()
        return result

    return run_cell


def preloaded(run: str, *others: str) -> list[str]:
    """The modules for a forking server; ``sweeps.survive`` imports that of the run and those of one's own that are
    allowed here, which what it forks may import as well. Then the source of all is taken."""
    os.environ[PRELOAD_VARIABLE] = run.partition(":")[0]
    os.environ[PLUGINS_VARIABLE] = " ".join(allowed())
    return ["sweeps.survive", "sweeps.as_imported", *others]
