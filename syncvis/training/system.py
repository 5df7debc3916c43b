"""What the machine does while a run trains: speed, processor and memory, for the rows of the log."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import torch

from syncvis.training.step import Row

PREFIX = "system/"
"""Of the names of values that differ from one run of the same config to the next."""


class SystemMeter:
    """Measures from its making, or the last row or restart, to the next row.

    The row's values: ``seconds_per_step`` of wall time, with the wait for data; ``cpu``, seconds of all threads of this
    process per second; ``memory_mib`` that is resident; on a GPU ``gpu_allocated_mib`` and ``gpu_reserved_mib``.
    """

    def __init__(self, device: torch.device, step: int) -> None:
        self._device = device
        self.restart(step)

    def restart(self, step: int) -> None:
        """Leave out what happened since the last row, such as an evaluation."""
        self._step, self._wall, self._cpu = step, time.monotonic(), time.process_time()

    def row(self, step: int) -> Row:
        """Values up to now, after ``step`` steps of the run."""
        wall = max(time.monotonic() - self._wall, 1e-9)
        values = {
            "seconds_per_step": wall / max(step - self._step, 1),
            "cpu": (time.process_time() - self._cpu) / wall,
            "memory_mib": resident_mib(),
        }
        if self._device.type == "cuda":
            values["gpu_allocated_mib"] = torch.cuda.memory_allocated(self._device) / 2**20
            values["gpu_reserved_mib"] = torch.cuda.memory_reserved(self._device) / 2**20
        self.restart(step)
        return {PREFIX + name: value for name, value in values.items()}


def resident_mib() -> float:
    """Memory of this process now; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20
