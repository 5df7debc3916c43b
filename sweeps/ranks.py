"""Several processes that train one trial together, on this machine; the process that starts them talks to the ledger.

It hands the rows of the first one on, one at a time, so that a trial that should stop does so before its next step.
A stop reaches all of them. When one fails or dies the others are ended, and the first reason is the trial's.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from sweeps.signals import StopSignal, held_signals, stop_signal
from sweeps.trial import (
    CodeError,
    OnRow,
    RunCell,
    cause_of_death,
    load_run,
    one_line,
    preloaded,
    would_come_again,
)
from syncvis.config import RunConfig
from syncvis.errors import Interrupted, WorkbenchError
from syncvis.execution import Execution

POLL_SECONDS = 0.2
GRACE_SECONDS = 2.0
"""How long the others may take to tell a reason that came before the one that was heard first."""


@dataclass(frozen=True)
class _End:
    """Of one process: its result, or what it raised; ``seconds`` on a clock that they share, none if it just died."""

    result: dict[str, Any] | None = None
    error: WorkbenchError | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Rank:
    number: int
    process: ForkServerProcess
    connection: Connection

    def next_message(self) -> tuple[int, dict[str, Any]] | _End:
        """A row with the number of its line, or the end."""
        try:
            message: tuple[int, dict[str, Any]] | _End = self.connection.recv()
        except EOFError:
            self.process.join()
            reason = cause_of_death(self.process.exitcode or 0)
            return _End(error=WorkbenchError(reason, key=f"process {self.number}"))
        return message


def together(run: str, execution: Execution, processes: int) -> RunCell:
    """The run function "module:function", carried out by so many processes; on cuda each has a GPU of its own."""

    def run_cell(config: RunConfig, out: Path, should_stop: StopSignal, on_row: OnRow) -> dict[str, Any]:
        with _started(config, out, run, execution, processes) as ranks:
            return _result_of(ranks, should_stop, on_row)

    return run_cell


@contextmanager
def _started(config: RunConfig, out: Path, run: str, execution: Execution, processes: int) -> Iterator[list[_Rank]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded(run, "syncvis.distributed"))
    ranks: list[_Rank] = []
    try:
        for number, place in enumerate(_places(processes)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_main, args=(theirs, config, out, run, execution, place))
            with held_signals():
                process.start()
            theirs.close()
            ranks.append(_Rank(number, process, ours))
        yield ranks
    finally:
        for rank in ranks:
            rank.process.kill()
            rank.process.join()
            rank.connection.close()


def _places(processes: int) -> list[dict[str, str]]:
    """What torchrun would tell each process in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(number), "LOCAL_RANK": str(number)} for number in range(processes)]


def _result_of(ranks: Sequence[_Rank], should_stop: StopSignal, on_row: OnRow) -> dict[str, Any]:
    """Serve the processes until all have ended, or one has failed; raises what went wrong first."""
    ends: dict[int, _End] = {}
    asked, deadline = False, float("inf")
    while len(ends) < len(ranks) and time.monotonic() < deadline:
        left = {rank.connection: rank for rank in ranks if rank.number not in ends}
        heard = [left[ready] for ready in wait(list(left), POLL_SECONDS) if isinstance(ready, Connection)]
        waiting = []
        for rank in heard:
            message = rank.next_message()
            if isinstance(message, _End):
                ends[rank.number] = message
            else:
                on_row(*message)
                waiting.append(rank.connection)
        if not asked and should_stop():
            asked = True
            for rank in ranks:
                rank.process.terminate()
        for connection in waiting:
            connection.send(None)
        failures = [end for end in ends.values() if end.error and not isinstance(end.error, Interrupted)]
        if failures and deadline == float("inf"):
            deadline = time.monotonic() + GRACE_SECONDS
    # One that died without a word did so first: the others notice only that.
    for error in (end.error for end in sorted(ends.values(), key=lambda end: end.seconds) if end.error):
        raise error
    return ends[0].result or {}


def _main(
    connection: Connection, config: RunConfig, out: Path, run: str, execution: Execution, place: dict[str, str]
) -> None:
    """The life of one process: join the others, train, and tell the end before leaving them."""
    from syncvis.distributed import joined

    os.environ.update(place)
    stopped = stop_signal()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    is_first = place["RANK"] == "0"

    def on_row(line: int, row: dict[str, Any]) -> None:
        if is_first:
            connection.send((line, row))
            connection.recv()

    try:
        with joined(execution.device) as own_device:
            end = _end_of(
                load_run(run, replace(execution, device=own_device)), config, out, stopped, on_row, place["RANK"]
            )
            connection.send(end if is_first or end.error else _End())
    except WorkbenchError as error:
        connection.send(_End(error=error, seconds=time.monotonic()))


def _end_of(run: RunCell, config: RunConfig, out: Path, stopped: StopSignal, on_row: OnRow, number: str) -> _End:
    try:
        return _End(run(config, out, stopped, on_row))
    except Exception as error:  # whatever it is, the process that talks to the ledger has to know
        kind = CodeError if would_come_again(error) else WorkbenchError
        told = error if isinstance(error, WorkbenchError) else kind(one_line(error), key=f"process {number}")
        told.add_note(traceback.format_exc())
        return _End(error=told, seconds=time.monotonic())


def _die_with_parent() -> None:
    """So that nobody writes in the run folder when the cell has gone to somebody else."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
