"""One step of the optimizer: the passes over a batch, their precision, and the gradient over all processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from syncvis.config import RunConfig
from syncvis.distributed import mean_over_processes, rank, world_size
from syncvis.errors import NonFiniteLossError
from syncvis.methods.base import Method
from syncvis.structures import ClipBatch
from syncvis.training.optim import build_optimizer, learning_rate, set_learning_rate
from syncvis.transfer import to_host

Row = dict[str, float]

LOW_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


def seed_step(seed: int, step: int, part: int = 0) -> None:
    """Make everything random in one part of a step's batch a function of (seed, step, part).

    Whatever ran before in this process, and whichever process has the part. The CPU generator reads 32 bits only, so
    the primes keep the parts apart there.
    """
    torch.manual_seed((seed * 1_000_003 + part * 15_485_863 + step) % 2**63)


@dataclass(frozen=True)
class StepOutcome:
    """What a step came to, over all passes and processes; its tensors are on the host.

    Attributes:
        rate: the base learning rate.
        losses: mean of each loss of the method, by its name.
        total: their sum.
        norm: of the gradient before clipping.
        skipped: the gradient overflowed in fp16, and the weights stayed as they were.
        loss_scale: what the loss was multiplied with; None but for fp16.
    """

    rate: float
    losses: Mapping[str, Tensor]
    total: Tensor
    norm: Tensor
    skipped: bool = False
    loss_scale: float | None = None

    def row(self, step: int) -> Row:
        """The step as a row of the log, with the losses summed over layers and sub-clips.

        ``subclip0-1/layer2/dice`` counts for ``loss/subclip/dice``, ``temporal-subclip0-1/layer2/dice`` for
        ``loss/temporal-subclip/dice``, any other ``clip/layer2/dice`` for ``loss/clip/dice``.
        """
        row: Row = {"step": step, "lr": self.rate, "loss": self.total.item()}
        if not self.skipped:
            row["gradient_norm"] = self.norm.item()
        if self.loss_scale is not None:
            row["loss_scale"] = self.loss_scale
        for name, value in self.losses.items():
            window, _, term = name.split("/")
            before, subclip, _ = window.partition("subclip")
            key = f"loss/{before}{subclip}/{term}"
            row[key] = row.get(key, 0.0) + value.item()
        return row


class TrainingStep:
    """Moves the weights of a model by one optimizer step per call.

    The gradient is the mean over passes and processes. Losses that are divided by a mean over processes
    (:func:`syncvis.distributed.mean_over_processes`) so give, on several processes, the gradient of the whole batch.
    Every pass has normalisers of its own: accumulated passes equal one large pass where the normalisers agree.

    Args:
        model: its weights are changed in place and stay float32 in every precision.
        config: of the run; ``train`` and ``seed`` are read.
    """

    def __init__(self, model: Method, config: RunConfig, device: torch.device) -> None:
        self.seed, self.settings, self.device = config.seed, config.train, device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(model, config.train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.train.precision == "fp16")
        self._losses: nn.Module = _Losses(model)
        if world_size() > 1:
            self._losses = DistributedDataParallel(self._losses)

    def __call__(self, step: int, passes: Iterable[ClipBatch]) -> StepOutcome:
        """Take one step on the batches of its passes.

        Raises:
            NonFiniteLossError: In all processes alike; a loss or, but in fp16, the gradient is not finite.
            ValueError: The method names a loss otherwise than :meth:`Method.losses` says.
        """
        rate = learning_rate(self.settings, step)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        found = [self._backward(step, index, batch) for index, batch in enumerate(passes)]
        losses = {name: torch.stack([terms[name] for terms in found]).mean(0) for name in found[0]}
        self.scaler.unscale_(self.optimizer)
        outcome = self._outcome(rate, losses, self._clip())
        _require_finite(outcome, step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return outcome

    def state_dict(self) -> dict[str, Any]:
        """State of optimizer and loss scale, for a checkpoint."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _backward(self, step: int, index: int, batch: ClipBatch) -> dict[str, Tensor]:
        """Add the gradient of one pass; gives its losses, averaged over the processes."""
        seed_step(self.seed, step, index * world_size() + rank())
        with self._exchange(last=index + 1 == self.settings.accumulate):
            with self._autocast():
                progress = step / self.settings.steps
                losses: dict[str, Tensor] = self._losses(batch.to(self.device), progress)
            _require_three_parts(losses)
            values = torch.stack(list(losses.values()))
            self.scaler.scale(values.sum() / self.settings.accumulate).backward()
        return dict(zip(losses, mean_over_processes(values.detach()), strict=True))

    def _outcome(self, rate: float, losses: Mapping[str, Tensor], norm: Tensor) -> StepOutcome:
        """What the log and the checks read of a step, brought to the host at once."""
        total = torch.stack(list(losses.values())).sum()
        *values, total, norm, scale = to_host(
            [*losses.values(), total, norm, self.scaler.scale(torch.ones_like(total))]
        )
        losses = dict(zip(losses, values, strict=True))
        if not self.scaler.is_enabled():
            return StepOutcome(rate, losses, total, norm)
        return StepOutcome(rate, losses, total, norm, not math.isfinite(norm), scale.item())

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Only the backward pass of the last pass averages the gradients over the processes."""
        if isinstance(self._losses, DistributedDataParallel) and not last:
            return self._losses.no_sync()
        return nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = LOW_PRECISION.get(self.settings.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def _clip(self) -> Tensor:
        return nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)


class _Losses(nn.Module):
    """The losses of a method as a forward pass, which is what data parallelism looks at."""

    def __init__(self, model: Method) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ClipBatch, progress: float) -> dict[str, Tensor]:
        return self.model.losses(batch, progress=progress)


def _require_three_parts(names: Iterable[str]) -> None:
    wrong = [name for name in names if name.count("/") != 2 or not all(name.split("/"))]
    if wrong:
        raise ValueError(f"losses are named <window or level>/layer<i>/<term>, not {', '.join(map(repr, wrong[:4]))}")


def _require_finite(outcome: StepOutcome, step: int) -> None:
    guilty = [name for name, value in outcome.losses.items() if not math.isfinite(value)]
    if math.isfinite(outcome.total):
        if math.isfinite(outcome.norm) or outcome.skipped:
            return
        guilty = ["gradient norm"]
    raise NonFiniteLossError(
        f"{', '.join(guilty[:4]) or 'the sum of the losses'} is not finite at step {step}",
        fix="lower train.lr or look at the inputs of that step",
    )
