"""The NVIDIA GPUs of this machine, counted without torch: plans and launches look at them before anything trains."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syncvis.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
LIBRARY = "libnvidia-ml.so.1"
"""NVML, which comes with the driver. Unlike CUDA itself it may be asked by a process that forks afterwards."""
DEVICES = Path("/dev")


def count() -> int:
    """How many GPUs a process that is started here would see: 0 without GPU or driver."""
    return len(visible())


def visible() -> tuple[str, ...]:
    """Their names, each a value of CUDA_VISIBLE_DEVICES: torch's cuda:0 is the first, and so on.

    As CUDA reads that variable: indices and identifiers (``GPU-...``, ``MIG-...``), up to the first that is not there;
    none at all where one stands twice. All GPUs where it is not set.
    """
    there = _number_of_devices()
    wanted = os.environ.get(VISIBLE)
    if wanted is None or there == 0:
        return tuple(map(str, range(there)))
    found: list[str] = []
    for name in (word.strip() for word in wanted.split(",")):
        is_index = name.isdecimal() and int(name) < there
        if not (is_index or name.startswith(("GPU-", "MIG-"))):
            break
        found.append(name)
    return tuple(found) if len(set(found)) == len(found) else ()


def require(number: int) -> None:
    """Raise ConfigError if a process that is started here would see fewer GPUs."""
    found = count()
    if found < number:
        problem = f"{number} needed, this machine shows {found}"
        fix = f"take a machine that has them, look at {VISIBLE}, or train with --device cpu"
        raise ConfigError(problem, key="GPUs", fix=fix)


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Values of CUDA_VISIBLE_DEVICES for some of the GPUs that this process sees.

    Args:
        names: indices among :func:`visible`, as torch counts them, or identifiers. An index is looked up, so that
            index 0 of a process that was given GPUs 2 and 3 is GPU 2.

    Raises:
        LookupError: One of them is not there; its argument is the name.
    """
    seen = visible()
    found = []
    for name in names:
        if not (name.isdecimal() and int(name) < len(seen)) and not name.startswith(("GPU-", "MIG-")):
            raise LookupError(name)
        found.append(seen[int(name)] if name.isdecimal() else name)
    return tuple(found)


def capability(name: str) -> tuple[int, int] | None:
    """Compute capability (major, minor) of a GPU by its name in :func:`visible`; None where it cannot be told."""
    with _nvml() as nvml:
        if nvml is None or not name.isdecimal():
            return None
        device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(device)) != 0:
            return None
        told = nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
        return (major.value, minor.value) if told == 0 else None


def _number_of_devices() -> int:
    """Of the machine or container, whatever CUDA_VISIBLE_DEVICES says."""
    number = ctypes.c_uint()
    with _nvml() as nvml:
        if nvml is None:  # a container may have the GPUs without this library
            return len(list(DEVICES.glob("nvidia[0-9]*")))
        return number.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(number)) == 0 else 0


@contextmanager
def _nvml() -> Iterator[Any]:
    """The library, ready to be asked; None where it is not there or finds no driver."""
    try:
        nvml = ctypes.CDLL(LIBRARY)
    except OSError:
        yield None
        return
    if nvml.nvmlInit_v2() != 0:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()
