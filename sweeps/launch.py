"""What a launch asks for, and whether all of it can be meant: looked at before the first cell, or the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from sweeps.placement.ray import RaySettings
from sweeps.placement.slurm import SlurmSettings
from sweeps.plugins import try_plugins
from sweeps.printing import say
from sweeps.readiness import look_at
from sweeps.runner import SweepOptions
from syncvis import gpus
from syncvis.config import RunConfig
from syncvis.errors import ConfigError
from syncvis.execution import DEVICE, Execution, require_precision, require_shares

Placed = SlurmSettings | RaySettings | None


def device_of(device: str | None, names: Sequence[str], placement: Placed) -> str:
    """The device of ``--device``, or "cuda" where GPUs are asked for and "cpu" where none is.

    Raises:
        ConfigError: GPUs are asked for and would be idle, or none is asked for and one is needed.
    """
    word = _word_for_gpus(names, placement)
    if device is None:
        return "cuda" if word else "cpu"
    on_gpu = Execution(device).on_gpu
    if word and not on_gpu:
        raise ConfigError(f"asks for GPUs that {DEVICE} {device} leaves idle", key=word, fix="leave one of them out")
    if on_gpu and not word and isinstance(placement, SlurmSettings):
        fix = "add --slurm gpus_per_node=N, N as --processes-per-trial"
        raise ConfigError("asks SLURM for no GPU", key=f"{DEVICE} {device}", fix=fix)
    if on_gpu and isinstance(placement, RaySettings) and placement.gpus == 0:
        raise ConfigError("asks Ray for no GPU", key="--gpus-per-trial", fix="leave it out: one GPU per process")
    return device


def gpus_of(names: Sequence[str], execution: Execution, placement: Placed) -> tuple[str, ...]:
    """The GPUs of this machine that workers share out, each as for CUDA_VISIBLE_DEVICES; all where none is named.

    Raises:
        ConfigError: One is not there; or they are named for workers of other machines.
    """
    if placement is not None:
        if names:
            fix = "ask for them with --slurm gpus_per_node=N, or --gpus-per-trial N of Ray"
            raise ConfigError("names GPUs of this machine, where no trial will run", key="--gpus", fix=fix)
        if isinstance(placement, SlurmSettings) and placement.cluster == "local":
            gpus.require(placement.gpus)
        return ()
    if not execution.on_gpu:
        return ()
    gpus.require(1)
    try:
        return gpus.chosen(names or list(map(str, range(gpus.count()))))
    except LookupError as error:
        there = ", ".join(map(str, range(gpus.count())))
        raise ConfigError(f"there is no GPU {error}", key="--gpus", fix=f"name some of {there}") from None


def refuse_unready(configs: Sequence[RunConfig], options: SweepOptions, allow_missing: bool = False) -> None:
    """One error before the first cell, for what every cell of some kind would fail on; notes are said.

    Args:
        allow_missing: pass over data, splits and weights that are absent here: the workers' machines have them.

    Raises:
        WorkbenchError: Of the kind of what was found first.
    """
    if not configs:
        return
    try_plugins(configs)
    require_fit(configs, options)
    found = look_at(configs)
    (found.wrong if allow_missing else found).refuse()
    for note in found.notes:
        say(Console(), f"note: {note}")


def require_fit(configs: Sequence[RunConfig], options: SweepOptions) -> None:
    """Raise ConfigError if batches, processes and GPUs do not fit together, or a GPU has not a cell's precision."""
    processes, on_gpu, placed = options.processes, options.execution.on_gpu, options.placement
    _require_batches(configs, processes)
    if on_gpu and isinstance(placed, SlurmSettings):
        _require_gpus_of_a_trial(placed.gpus, processes, "--slurm gpus_per_node")
    elif on_gpu and isinstance(placed, RaySettings) and placed.gpus is not None:
        _require_gpus_of_a_trial(placed.gpus, processes, "--gpus-per-trial")
    elif on_gpu and placed is None:
        _require_one_gpu_per_process(options.gpu_groups)
        for precision in {config.train.precision for config in configs}:
            for name in dict.fromkeys(options.gpus):
                require_precision(precision, gpus.capability(name))


def _word_for_gpus(names: Sequence[str], placement: Placed) -> str:
    """The option that asks for GPUs; empty where none does."""
    if isinstance(placement, SlurmSettings) and placement.gpus:
        return "--slurm gpus_per_node" if placement.gpus_per_node else "--slurm gres"
    if isinstance(placement, RaySettings) and placement.gpus:
        return "--gpus-per-trial"
    return "--gpus" if names else ""


def _require_batches(configs: Sequence[RunConfig], processes: int) -> None:
    """Every step must have the clips that its config says, shared out equally."""
    kinds = Counter((config.train.batch_size, config.train.accumulate) for config in configs)
    for (batch, passes), cells in kinds.items():
        try:
            require_shares(batch, processes, passes)
        except ConfigError as error:
            problem = f"{error.problem} ({cells} of {len(configs)} cells)"
            fix = f"use a multiple of {processes * passes}, another --processes-per-trial, or another train.accumulate"
            raise ConfigError(problem, key=error.key, fix=fix) from None


def _require_gpus_of_a_trial(asked: float, processes: int, key: str) -> None:
    """Of a job or task, which trains one trial at a time; a process alone may have a part of a GPU."""
    if asked == processes or (processes == 1 and asked < 1):
        return
    problem = f"asks for {asked:g} GPUs, and the {processes} processes of a trial use one each"
    fix = f"ask for {processes}, or set --processes-per-trial {asked:g}"
    raise ConfigError(problem, key=key, fix=fix)


def _require_one_gpu_per_process(groups: Sequence[str]) -> None:
    for group in groups:
        names = group.split(",")
        if len(set(names)) < len(names):
            problem = f"two processes of one trial would share a GPU ({group})"
            raise ConfigError(problem, key="--gpus", fix="name another for each of --processes-per-trial")
