"""The signals that ask processes of a sweep to stop: noted, never deadly, and not lost while a process starts."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

StopSignal = Callable[[], bool]
"""Whether to end early, after a checkpoint."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""SLURM and terminals send them to every process of a job."""
_signalled: set[int] = set()


def note_signals() -> None:
    """Note each of ``SIGNALS``, with the process that gets it: a fork has not got its parent's.

    One that was held back while the process started arrives now.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: _signalled.add(os.getpid()))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def stop_signal() -> StopSignal:
    """True from the first such signal on, or once the process that started this one is gone."""
    note_signals()
    parent = multiprocessing.parent_process()
    return lambda: os.getpid() in _signalled or (parent is not None and not parent.is_alive())


@contextmanager
def held_signals() -> Iterator[None]:
    """Inside, ``SIGNALS`` wait, also in the processes that are started: until they note them.

    A forking server, and the process that follows its semaphores, would otherwise die of a signal to the whole job.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # lets SIGINT and SIGTERM in again, and ignores them itself
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
