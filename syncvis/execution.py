"""How a run is carried out: device, threads, loader processes, memory, determinism. No part of a run's identity.

Defaults are those of the machine that trains: an :class:`Execution` is :meth:`~Execution.resolved` there, not where a
command was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from syncvis.errors import ConfigError

MAX_LOADER_WORKERS = 8
"""Most loader processes of one training process that are a default; more can be asked for."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NATIVE_BF16 = (8, 0)
"""First compute capability with bf16 arithmetic (CUDA C++ Programming Guide, "Compute Capabilities")."""

DEVICE = "--device"
THREADS = "--threads"
LOADER_WORKERS = "--loader-workers"
CHECKPOINT_ACTIVATIONS = "--checkpoint-activations"
DETERMINISTIC = "--deterministic"
FEATURE_CACHE = "--feature-cache"
FEATURE_CACHE_GIB = "--feature-cache-gib"
"""The options, of every command that carries out runs."""


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; nothing here changes a result on the CPU.

    Attributes:
        device: "cpu" or "cuda"; of several processes, that of this one ("cuda:1").
        threads: CPU threads of a training process.
        loader_workers: processes that prepare the batches of a training process; 0 prepares them in the training
            process itself, None is the default of the machine that trains.
        checkpoint_activations: less memory for more time, see :mod:`syncvis.training.activations`.
        deterministic: the same bits every time also on a GPU, or an error.
        feature_cache: folder for what a frozen encoder computes of each frame, shared by all runs that name it; None
            computes it every time.
        feature_cache_gib: what all entries of that folder may take, in GiB.

    Raises:
        ConfigError: There is no such device, or a number is out of range.
    """

    device: str = "cpu"
    threads: int = 1
    loader_workers: int | None = None
    checkpoint_activations: bool = False
    deterministic: bool = False
    feature_cache: str | None = None
    feature_cache_gib: float = 20.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"{self.device!r} is no device", key=DEVICE, fix="give cpu or cuda")
        if self.threads < 1:
            raise ConfigError(f"{self.threads} is no number of threads", key=THREADS, fix="give 1 or more")
        if (self.loader_workers or 0) < 0:
            problem = f"{self.loader_workers} is no number of processes"
            raise ConfigError(problem, key=LOADER_WORKERS, fix="give 0 or more")
        if not self.feature_cache_gib > 0:
            problem = f"{self.feature_cache_gib} GiB hold nothing"
            raise ConfigError(problem, key=FEATURE_CACHE_GIB, fix=f"give more than 0, or leave {FEATURE_CACHE} out")

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    def resolved(self, sharing: int = 1) -> Self:
        """With the default of this machine where ``loader_workers`` is None.

        On the CPU that is 0. On a GPU it is this process's share of the cores without one for itself, at least 1 and
        at most ``MAX_LOADER_WORKERS``.

        Args:
            sharing: how many training processes share the cores that this process may use.
        """
        if self.loader_workers is not None:
            return self
        cores = len(os.sched_getaffinity(0)) // sharing
        return replace(self, loader_workers=min(max(cores - 1, 1), MAX_LOADER_WORKERS) if self.on_gpu else 0)

    def environment(self) -> dict[str, str]:
        """Variables that numeric libraries read their number of threads from when they are imported."""
        return dict.fromkeys(THREAD_VARIABLES, str(self.threads))

    def words(self) -> list[str]:
        """As options of a command."""
        words = [DEVICE, self.device, THREADS, str(self.threads)]
        words += [] if self.loader_workers is None else [LOADER_WORKERS, str(self.loader_workers)]
        words += [CHECKPOINT_ACTIVATIONS] * self.checkpoint_activations + [DETERMINISTIC] * self.deterministic
        if self.feature_cache is not None:
            words += [FEATURE_CACHE, self.feature_cache, FEATURE_CACHE_GIB, str(self.feature_cache_gib)]
        return words

    def settings(self) -> dict[str, Any]:
        """Every field by its name, for another :class:`Execution`."""
        return {field.name: getattr(self, field.name) for field in fields(Execution)}

    def to_json(self) -> dict[str, Any]:
        """For a record: without the feature cache, which names a folder of this machine and changes no number."""
        return {name: value for name, value in self.settings().items() if not name.startswith("feature_cache")}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave; names that this version does not have are left out."""
        return cls(**{field.name: tree[field.name] for field in fields(Execution) if field.name in tree})


PLAIN = Execution()
"""On the CPU with one thread."""


def require_shares(batch_size: int, processes: int, accumulate: int) -> int:
    """Clips of each process in each pass.

    Raises:
        ConfigError: A batch cannot be divided so.
    """
    parts = processes * accumulate
    if batch_size % parts:
        raise ConfigError(
            f"{batch_size} clips cannot be shared by {processes} processes in {accumulate} passes",
            key="train.batch_size",
            fix=f"use a multiple of {parts}, or another number of processes or train.accumulate",
        )
    return batch_size // parts


def require_precision(precision: str, capability: tuple[int, int] | None) -> None:
    """Refuse what a GPU would only emulate.

    Args:
        precision: of ``train.precision``.
        capability: compute capability of the GPU; None for the CPU, which has every precision, or where it is unknown.

    Raises:
        ConfigError: The GPU has no arithmetic of that precision.
    """
    if precision == "bf16" and capability is not None and capability < NATIVE_BF16:
        has, needs = (".".join(map(str, found)) for found in (capability, NATIVE_BF16))
        problem = f"this GPU has no bf16 (compute capability {has}, bf16 needs {needs})"
        raise ConfigError(problem, key="train.precision", fix="set train.precision=fp16, or take a newer GPU")
