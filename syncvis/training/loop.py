"""The training loop. It reads top to bottom; all randomness of a step is a function of (seed, step)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syncvis.config import RunConfig, TrainConfig
from syncvis.distributed import any_process, rank, share_buffers, wait_for_all
from syncvis.errors import Interrupted, NonFiniteLossError
from syncvis.files import remove_litter
from syncvis.methods.base import Method
from syncvis.structures import ClipBatch
from syncvis.training.log import Listener, MetricsLog
from syncvis.training.prefetch import prefetched
from syncvis.training.resume import exists, load_checkpoint, put_back, save_checkpoint
from syncvis.training.step import Row, StepOutcome, TrainingStep
from syncvis.training.system import SystemMeter

MAX_SKIPPED = 50
"""Steps in a row that fp16 may lose to overflow: the loss scale is halved each time, and 2**50 is beyond any."""


@dataclass
class Progress:
    """How far a run has come: steps, evaluations and the seconds spent in them, over all times it was continued.

    ``skipped`` counts the steps in a row, up to now, that fp16 lost to overflow; ``rows`` the lines of the log.
    """

    step: int = 0
    skipped: int = 0
    rows: int = 0
    history: list[Row] = field(default_factory=list)
    train_seconds: float = 0.0
    eval_seconds: float = 0.0


def train(
    model: Method,
    batches: Callable[[int, int], Iterable[tuple[int, ClipBatch]]],
    evaluate: Callable[[], Row],
    config: RunConfig,
    out: Path,
    device: torch.device,
    should_stop: Callable[[], bool],
    listener: Listener,
) -> Progress:
    """Train ``model`` in place to ``config.train.steps``, from ``out/checkpoint.pt`` if that is there.

    Of several processes all call this; the first one logs and stores, and all see one folder ``out``.

    Args:
        batches: (start, stop) -> the batches of these steps with their step, in order; one per pass.
        evaluate: metrics of the model as it stands; may raise Interrupted, in all processes.
        should_stop: asked after each step; True in any process stores a checkpoint and ends the run in all.
        listener: told every row of the log with its line, those from before first; in the first process.

    Raises:
        Interrupted: ``should_stop`` or ``evaluate`` said so; the checkpoint is on disk.
        NonFiniteLossError: Names the step and the terms.
        StorageError: No checkpoint is whole, it belongs to another run, or something cannot be written.
    """
    settings = config.train
    take_step = TrainingStep(model, config, device)
    progress = _resume(out / "checkpoint.pt", model, take_step, config)
    log = MetricsLog(out / "metrics.jsonl", progress.rows, listener) if rank() == 0 else None
    meter = SystemMeter(device, progress.step)

    def report(row: Row) -> None:
        if log is not None:
            log.write(row)
            progress.rows = log.lines

    def store() -> None:
        if log is not None:
            log.flush()
            save_checkpoint(out / "checkpoint.pt", _state(model, take_step, config, progress))
        wait_for_all()

    def evaluate_if_due() -> bool:
        if not _evaluation_due(progress, settings):
            return False
        try:
            _evaluate(model, evaluate, progress, report)
        except Interrupted:
            store()
            raise
        store()
        meter.restart(progress.step)
        return True

    evaluate_if_due()  # a run without steps, or one that was stopped in an evaluation
    stream = prefetched(batches(progress.step, settings.steps), device)
    for step, first in stream:
        started = time.monotonic()
        others = (batch for _, batch in islice(stream, settings.accumulate - 1))
        outcome = take_step(step, chain([first], others))
        progress.step = step + 1
        _count_skipped(progress, outcome)
        progress.train_seconds += time.monotonic() - started

        last = progress.step == settings.steps
        if progress.step % settings.log_every == 0 or last:
            report(outcome.row(progress.step) | meter.row(progress.step))
        stored = not last and evaluate_if_due()
        if last or (progress.step % settings.checkpoint_every == 0 and not stored):
            store()
        if any_process(should_stop()) and not last:
            store()
            raise Interrupted(f"stopped after step {progress.step}", file=out, fix="run the same command to continue")
    evaluate_if_due()
    return progress


def _count_skipped(progress: Progress, outcome: StepOutcome) -> None:
    progress.skipped = progress.skipped + 1 if outcome.skipped else 0
    if progress.skipped >= MAX_SKIPPED:
        raise NonFiniteLossError(
            f"the gradient overflowed in the last {MAX_SKIPPED} steps, up to step {progress.step}",
            key="train.precision",
            fix="use bf16 or float32, or lower train.lr",
        )


def _evaluation_due(progress: Progress, settings: TrainConfig) -> bool:
    step = progress.step
    regular = bool(settings.eval_every and step and step % settings.eval_every == 0)
    done = bool(progress.history) and progress.history[-1]["step"] == step
    return (regular or step == settings.steps) and not done


def _evaluate(model: nn.Module, evaluate: Callable[[], Row], progress: Progress, report: Callable[[Row], None]) -> None:
    started = time.monotonic()
    share_buffers(model)
    model.eval()
    metrics = evaluate()
    model.train()
    progress.eval_seconds += time.monotonic() - started
    progress.history.append({"step": progress.step, **metrics})
    report({"step": progress.step, **{f"eval/{name}": value for name, value in metrics.items()}})


def _state(model: nn.Module, take_step: TrainingStep, config: RunConfig, progress: Progress) -> dict[str, Any]:
    return {
        "cell_hash": config.cell_hash,
        "model": model.state_dict(),
        **take_step.state_dict(),
        "progress": vars(progress).copy(),
    }


def _resume(path: Path, model: nn.Module, take_step: TrainingStep, config: RunConfig) -> Progress:
    for folder in (path.parent, path.parent / "overlays") if rank() == 0 else ():
        remove_litter(folder)
    if not exists(path):
        return Progress()
    state, source = load_checkpoint(path, config.cell_hash)
    wait_for_all()  # before the first one moves the file that the others read
    if rank() == 0 and source != path:
        put_back(source, path)
    model.load_state_dict(state["model"])
    take_step.load_state_dict(state)
    return Progress(**state["progress"])
