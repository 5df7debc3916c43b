"""``syncvis train CONFIG --dry-run``: what a run would be, what it would cost, and what of that is missing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from syncvis.config import RunConfig, read_layers
from syncvis.data.annotations import Category
from syncvis.errors import ConfigError, StorageError
from syncvis.execution import require_precision
from syncvis.methods.base import Method
from syncvis.preflight import INITIAL_WEIGHTS, Look, Missing, Problem, look, look_at_gpus, on_terminal
from syncvis.preflight.classes import classes_by_name
from syncvis.training.cost import (
    Memory,
    Parameters,
    count_parameters,
    counting_device,
    fake_forward_cost,
    memory,
    shape_model,
    training_size,
)
from syncvis.training.meter import ForwardCost
from syncvis.training.start import start_from

PAPER_GPUS = 8
"""Mask2Former's and SyncVIS's recipes are written for eight."""

DIFFERS = "# Differs: "


@dataclass(frozen=True)
class DryRun:
    """All that ``--dry-run`` says.

    Attributes:
        num_classes, classes_from: K and where it was found.
        clips: per GPU and pass.
        size: (height, width) of the padded frames that costs are counted for.
        parameters: by part.
        forward: cost of one forward pass of ``clips`` clips on one GPU.
        memory: of one GPU.
        initial_weights: what starts fresh or with the class head of other classes; empty if nothing does.
        differs: where the recipe cannot be followed, as its files say.
        notes: what is good to know of the data.
        exit_code: that of what is wrong with data or weights; 0 where they are only missing.
    """

    config: RunConfig
    num_classes: int
    classes_from: str
    gpus: int
    clips: int
    size: tuple[int, int]
    parameters: dict[str, Parameters]
    forward: ForwardCost
    memory: Memory
    initial_weights: str
    differs: list[str]
    notes: list[str]
    missing: list[Missing]
    exit_code: int

    @property
    def step_flops(self) -> dict[str, int]:
        """FLOPs of one training step on one GPU, by part: all passes, forward and backward."""
        passes, backward = self.config.train.accumulate, self.forward.backward
        return {part: passes * (flops + backward.get(part, 0)) for part, flops in self.forward.flops.items()}

    def to_json(self) -> dict[str, Any]:
        totals = {"step_flops": self.step_flops, "memory_total": self.memory.total}
        return {**asdict(self), **totals, "config": self.config.model_dump(mode="json")}


def dry_run(config: RunConfig, source: str | Path, gpus: int | None = None, device: str = "cpu") -> DryRun:
    """Look at a run without starting it.

    Args:
        source: the config's file, which may say where its recipe cannot be followed.
        gpus: processes that would train together, one per GPU; None: eight at scale paper, else one.
        device: where it would train; GPUs are looked for if it is no CPU, or if ``gpus`` are asked for.

    Raises:
        ConfigError: The batch cannot be shared out.
    """
    on_gpus = device != "cpu" or gpus is not None
    gpus = gpus or (PAPER_GPUS if config.scale == "paper" else 1)
    clips, found = _clips(config, gpus), look(config, on_terminal)
    num_classes, classes_from = _classes(config, source, found.categories)
    model = shape_model(config, num_classes)
    size = training_size(config)
    forward = fake_forward_cost(config, num_classes, clips, size, counting_device())
    needed = memory(model, forward)
    start, unfit = _start(config, model, found)
    missing = [*map(Missing.of, [*found.problems, *unfit])]
    if on_gpus:
        missing += _missing_gpus(gpus, needed, config.train.precision)
    return DryRun(
        config,
        num_classes,
        classes_from,
        gpus,
        clips,
        size,
        count_parameters(model),
        forward,
        needed,
        start,
        _differences(source),
        list(found.notes),
        missing,
        next((problem.error.exit_code for problem in [*found.faulty.problems, *unfit]), 0),
    )


def _clips(config: RunConfig, gpus: int) -> int:
    """Clips per GPU and pass."""
    batch, passes = config.train.batch_size, config.train.accumulate
    if batch % (gpus * passes):
        problem = f"{batch} clips cannot be shared out over {gpus} GPUs and {passes} passes"
        fix = f"choose --gpus and train.accumulate so that their product divides {batch}"
        raise ConfigError(problem, key="train.batch_size", fix=fix)
    return batch // (gpus * passes)


def _classes(config: RunConfig, source: str | Path, categories: Sequence[Category] | None) -> tuple[int, str]:
    """K and where it was found: in the training split if that can be read."""
    root = Path(config.data.root)
    if categories is not None:
        return len(categories), f"categories of {root / config.data.train}"
    return classes_by_name(root, Path(source).stem)


def _start(config: RunConfig, model: Method, found: Look) -> tuple[str, list[Problem]]:
    """What the initial weights leave open, and a problem if they are whole but do not fit the model."""
    init = config.train.init
    if init is None or any(problem.what == INITIAL_WEIGHTS for problem in found.problems):
        return "", []
    classes = None if found.categories is None else [category.name for category in found.categories]
    try:
        return start_from(model, init, classes).words, []
    except StorageError as error:
        return "", [Problem(INITIAL_WEIGHTS, error)]


def _missing_gpus(gpus: int, needed: Memory, precision: str) -> list[Missing]:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = [*map(Missing.of, look_at_gpus(gpus, found))]
    for index in range(min(found, gpus)):
        there = torch.cuda.get_device_properties(index).total_memory
        if there < needed.total:
            problem = f"GPU {index} has {gib(there)}, a step needs about {gib(needed.total)}"
            fix = "raise train.accumulate, or lower data.frames or data.short_side; train.precision=bf16 halves most"
            missing.append(Missing("GPU memory", problem, fix))
        try:
            require_precision(precision, torch.cuda.get_device_capability(index))
        except ConfigError as error:
            missing.append(Missing(f"GPU {index}", error.what, error.fix or ""))
    return missing


def _differences(source: str | Path) -> list[str]:
    """The lines of a recipe's files that say where it is not followed."""
    lines = [line for path, _ in read_layers(source) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line.removeprefix(DIFFERS) for line in lines if line.startswith(DIFFERS)]


def gib(size: int) -> str:
    """A number of bytes to read."""
    return f"{size / 2**30:.2f} GiB"
