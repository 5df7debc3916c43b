"""What several training processes must agree on; with one process everything here does nothing.

``torchrun`` starts the processes and tells each its place in the environment; :func:`joined` reads it. Numbers on the
CPU travel over gloo, gradients on GPUs over NCCL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from syncvis.errors import ConfigError, Interrupted, NonFiniteLossError

PLACE = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Processes wait for each other in an evaluation, where one may have much longer videos than another.
PATIENCE = timedelta(hours=2)

T = TypeVar("T")


def rank() -> int:
    """Number of this process, 0 for the first or only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def processes_here() -> int:
    """How many of the processes that train together are on this machine, and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world_size() > 1 else 1


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; gives the device of this one.

    Args:
        device: "cpu" or "cuda"; of several processes on one machine, each takes the GPU of its LOCAL_RANK.

    Raises:
        ConfigError: There is no such device, or the environment names only a part of this process's place.
    """
    kind, processes = torch.device(device).type, int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        _require_place()
        device = f"cuda:{os.environ['LOCAL_RANK']}" if kind == "cuda" else device
    _require_device(device)
    if processes == 1:
        yield device
        return
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield device
    except (ConfigError, Interrupted, NonFiniteLossError) as error:
        if rank() == 0:
            raise
        raise SystemExit(error.exit_code) from None  # all processes raise these together: the first one speaks
    finally:
        dist.destroy_process_group()


def _require_place() -> None:
    missing = [name for name in PLACE if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} is not set",
            file="environment",
            fix="start several processes with torchrun, or unset WORLD_SIZE",
        )


def _require_device(device: str) -> None:
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{device} is not there: this machine shows {torch.cuda.device_count()} GPUs",
            key="--device",
            fix="give torchrun an --nproc_per_node of at most that many, or train with --device cpu",
        )


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if world_size() == 1:
        return flag
    votes = torch.tensor(int(flag))
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return bool(votes)


def wait_for_all() -> None:
    """Return once every process has come here."""
    any_process(False)


def gather(item: T) -> list[T]:
    """What every process holds, in order of rank; anything that can be pickled."""
    if world_size() == 1:
        return [item]
    items = [item] * world_size()
    dist.all_gather_object(items, item)
    return items


@torch.no_grad()
def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a tensor that every process holds, without gradient."""
    if world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / world_size()


def share_buffers(module: nn.Module) -> None:
    """Give all processes the buffers of the first one: the running statistics of live batch norms differ."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
