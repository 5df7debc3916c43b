"""The training loop. It reads top to bottom; all randomness of a step is a function of (seed, step)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syncvis.config import RunConfig
from syncvis.errors import Interrupted, NonFiniteLossError
from syncvis.files import write_text
from syncvis.methods.base import Method
from syncvis.structures import ClipBatch
from syncvis.training.checkpoint import load_checkpoint, save_checkpoint
from syncvis.training.optim import build_optimizer, learning_rate, set_learning_rate

Row = dict[str, float]


@dataclass
class Progress:
    """How far a run has come: steps, evaluations and the seconds spent in them, over all its processes."""

    step: int = 0
    history: list[Row] = field(default_factory=list)
    train_seconds: float = 0.0
    eval_seconds: float = 0.0


class MetricsLog:
    """metrics.jsonl: one JSON object a line, each written whole; rows beyond a resume point are dropped."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        kept = [line for line in self._lines() if json.loads(line)["step"] <= resume_step]
        write_text(path, "".join(kept))

    def write(self, row: Row) -> None:
        with self.path.open("ab", buffering=0) as stream:
            stream.write((json.dumps(row) + "\n").encode())

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        return [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def seed_step(seed: int, step: int) -> None:
    """Make everything random in a step a function of (seed, step), whatever ran before it in this process."""
    torch.manual_seed((seed * 1_000_003 + step) % 2**63)


def train(
    model: Method,
    batches: Callable[[int, int], Iterable[tuple[int, ClipBatch]]],
    evaluate: Callable[[], Row],
    config: RunConfig,
    out: Path,
    device: torch.device,
    should_stop: Callable[[], bool],
    on_row: Callable[[Row], None],
) -> Progress:
    """Train ``model`` in place to ``config.train.steps``, from ``out/checkpoint.pt`` if that is there.

    Args:
        batches: (start, stop) -> the batches of these steps, in order.
        evaluate: metrics of the model as it stands.
        should_stop: asked after each step; True stores a checkpoint and ends the run.
        on_row: told every logged row.

    Raises:
        Interrupted: ``should_stop`` said so; the checkpoint is on disk.
        NonFiniteLossError: Names the step and the terms.
        StorageError: The checkpoint is damaged or belongs to another run.
    """
    settings = config.train
    optimizer = build_optimizer(model, settings)
    progress = _resume(out / "checkpoint.pt", model, optimizer, config)
    log = MetricsLog(out / "metrics.jsonl", progress.step)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def report(row: Row) -> None:
        log.write(row)
        on_row(row)

    def store() -> None:
        save_checkpoint(out / "checkpoint.pt", _state(model, optimizer, config, progress))

    for step, batch in batches(progress.step, settings.steps):
        started = time.monotonic()
        seed_step(config.seed, step)
        rate = learning_rate(settings, step)
        set_learning_rate(optimizer, rate)
        losses = model.losses(batch.to(device))
        total = torch.stack(list(losses.values())).sum()
        _require_finite(losses, total, step)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        _require_finite({"gradient norm": norm}, norm, step)
        optimizer.step()
        progress.step = step + 1
        progress.train_seconds += time.monotonic() - started

        last = progress.step == settings.steps
        if progress.step % settings.log_every == 0 or last:
            report(_row(progress.step, rate, total, norm, losses))
        if settings.eval_every and progress.step % settings.eval_every == 0 and not last:
            _evaluate(model, evaluate, progress, report)
        if progress.step % settings.checkpoint_every == 0 or last:
            store()
        if should_stop() and not last:
            store()
            raise Interrupted(f"stopped after step {progress.step}", file=out, fix="run the same command to continue")
    if not progress.history or progress.history[-1]["step"] != progress.step:
        _evaluate(model, evaluate, progress, report)
        store()
    return progress


def _evaluate(model: nn.Module, evaluate: Callable[[], Row], progress: Progress, report: Callable[[Row], None]) -> None:
    started = time.monotonic()
    model.eval()
    metrics = evaluate()
    model.train()
    progress.eval_seconds += time.monotonic() - started
    progress.history.append({"step": progress.step, **metrics})
    report({"step": progress.step, **{f"eval/{name}": value for name, value in metrics.items()}})


def _row(step: int, rate: float, total: Tensor, norm: Tensor, losses: dict[str, Tensor]) -> Row:
    terms: dict[str, float] = {}
    for name, value in losses.items():
        level, _, term = name.split("/")
        group = "subclip" if level.startswith("subclip") else level
        key = f"loss/{group}/{term}"
        terms[key] = terms.get(key, 0.0) + value.item()
    return {"step": step, "lr": rate, "loss": total.item(), "gradient_norm": norm.item(), **terms}


def _require_finite(terms: dict[str, Tensor], total: Tensor, step: int) -> None:
    if torch.isfinite(total):
        return
    guilty = [name for name, value in terms.items() if not torch.isfinite(value)]
    raise NonFiniteLossError(
        f"{', '.join(guilty[:4]) or 'the sum of the losses'} is not finite at step {step}",
        fix="lower train.lr or look at the inputs of that step",
    )


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig, progress: Progress) -> dict[str, Any]:
    return {
        "cell_hash": config.cell_hash,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress).copy(),
    }


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig) -> Progress:
    for litter in path.parent.glob(f".{path.name}.*.tmp"):
        if not os.path.exists(f"/proc/{litter.name.split('.')[-2]}"):
            litter.unlink(missing_ok=True)
    if not path.exists():
        return Progress()
    state = load_checkpoint(path, config.cell_hash)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])
