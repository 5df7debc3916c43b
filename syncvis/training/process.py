"""The process that a run happens in: its stop signals, determinism, memory and loader."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from syncvis.errors import ConfigError, WorkbenchError
from syncvis.execution import DETERMINISTIC, LOADER_WORKERS, require_precision

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, SIGTERM, SIGUSR1 and SIGUSR2 into a stop request; a second Ctrl-C acts as usual.

    Batch systems send the others more than once, and SIGKILL in the end.
    """
    received: list[int] = []

    def remember(number: int, _: object) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    numbers = [int(number) for number in STOP_SIGNALS]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, remember)
    except ValueError:  # not in the main thread: the caller owns the signals
        before = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Inside, only algorithms that give the same bits every time (PyTorch's notes on reproducibility).

    Raises:
        ConfigError: The run needs an operation that has no such algorithm on its device.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS_WORKSPACE)
    os.environ[CUBLAS_WORKSPACE] = workspace or ":4096:8"
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        problem, fix = str(error).split(",")[0], "leave the option away, or use another device"
        raise ConfigError(problem, key=DETERMINISTIC, fix=fix) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            del os.environ[CUBLAS_WORKSPACE]


def require_arithmetic(precision: str, device: torch.device) -> None:
    """Raise ConfigError if the device has no arithmetic of this ``train.precision``."""
    require_precision(precision, torch.cuda.get_device_capability(device) if device.type == "cuda" else None)


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak of what this process did before: a worker carries out many runs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # only Linux can; elsewhere the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """Peak since the reset, in MiB: of the GPU's memory, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


SIGNAL_SECONDS = 1.0
"""How long the signal of a dead loader process may take."""


@contextmanager
def loader_faults() -> Iterator[None]:
    """Inside, the death of a loader process is a fault that the user can read.

    Raises:
        WorkbenchError: A loader process was killed. It may strike anywhere: PyTorch raises from a signal handler.
    """
    try:
        yield
    except (ConnectionError, EOFError):
        with loader_faults():  # it died while it handed over a batch: PyTorch names it when its signal arrives
            time.sleep(SIGNAL_SECONDS)
        raise
    except RuntimeError as error:
        found = re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.+)", str(error).replace("\n", " "))
        if found is None:
            raise
        problem = f"process {found[1]} of the loader ended ({found[2].split('.')[0].strip()})"
        fix = "often memory ran out: use fewer loader processes, and run the same command to continue"
        raise WorkbenchError(problem, key=LOADER_WORKERS, fix=fix) from error
