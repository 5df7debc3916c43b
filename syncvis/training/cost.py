"""What a training step costs, counted without data, weights or a GPU.

The model runs forward once on fake tensors (torch's ``FakeTensorMode``): shapes, types and the device's choice of
kernels, no numbers and no memory. Plain meta tensors would not do: attention then keeps all its probabilities.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from syncvis.config import RunConfig
from syncvis.data.loader import padded_size
from syncvis.data.transforms import resized
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.training.meter import ForwardCost, forward_cost, forward_flops
from syncvis.training.validation import SIZE_DIVISOR

BACKWARD = 2
"""FLOPs of the backward pass against the forward pass, where everything learns: each product has one for its input and
one for its weight."""

WIDE = (9, 16)
"""Aspect ratio, height to width, that sizes are computed for."""


@dataclass(frozen=True)
class Parameters:
    """How many parameters a part has, with and without gradient."""

    trainable: int = 0
    frozen: int = 0

    def __add__(self, other: Parameters) -> Parameters:
        return Parameters(self.trainable + other.trainable, self.frozen + other.frozen)

    @property
    def total(self) -> int:
        return self.trainable + self.frozen


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at the end of the losses, when most is held.

    Attributes:
        weights: parameters and buffers.
        gradients: of the trainable parameters.
        optimizer: both moments of Adam.
        activations: what autograd keeps, without the losses: they make masks of matched queries only.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def shape_model(config: RunConfig, num_classes: int) -> Method:
    """The model of a config without storage: parameters on the meta device."""
    with torch.device("meta"):
        return build(config, num_classes)


def count_parameters(model: Method) -> dict[str, Parameters]:
    """Parameters by the method's parts, in their order, then by the top-level children of what is in none of them."""
    counts: dict[str, Parameters] = defaultdict(Parameters)
    for name, parameter in model.named_parameters():
        child = name.split(".")[0].replace("_", " ")
        part = next((part for part, pattern in model.parts.items() if re.match(pattern, name)), child)
        size = parameter.numel()
        counts[part] += Parameters(size, 0) if parameter.requires_grad else Parameters(0, size)
    return {part: counts[part] for part in dict.fromkeys([*model.parts, *counts]) if part in counts}


def training_size(config: RunConfig) -> tuple[int, int]:
    """Padded (height, width) of a 16:9 frame at the largest training short side."""
    frame = (120 * WIDE[0], 120 * WIDE[1])
    return padded_size(resized(frame, max(config.data.short_side), config.data.max_size), SIZE_DIVISOR)


def clip_flops(config: RunConfig, num_classes: int) -> int:
    """FLOPs of the forward and the backward pass of one training clip; times the batch size, those of a step."""
    with _fake(config, num_classes, 1, training_size(config), counting_device()) as (model, images, valid):
        if all(parameter.requires_grad for parameter in model.parameters()):
            return (1 + BACKWARD) * forward_flops(model, images, valid)
        cost = forward_cost(model, images, valid)
        return sum(cost.flops.values()) + sum(cost.backward.values())


def counting_device() -> str:
    """Whose kernels to count for: a GPU's, unless this torch was built without, and would abort the process."""
    return "cuda" if torch.backends.cuda.is_built() else "cpu"


def fake_forward_cost(
    config: RunConfig, num_classes: int, clips: int, size: tuple[int, int], device: str
) -> ForwardCost:
    """Cost of the forward pass of ``clips`` training clips of ``size`` (height, width) as on a device of this type.

    The device need not be there, but torch must be built for it. Half precision is counted as float16, whichever it
    is: they have the same size.
    """
    with _fake(config, num_classes, clips, size, device) as (model, images, valid):
        return forward_cost(model, images, valid)


def memory(model: nn.Module, cost: ForwardCost) -> Memory:
    """Memory of one process that trains ``model`` with AdamW in float32 state."""
    trainable = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    weights = sum(_bytes(x) for x in [*model.parameters(), *model.buffers()])
    return Memory(weights, trainable, 2 * trainable, sum(cost.saved.values()))


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


@contextmanager
def _fake(
    config: RunConfig, num_classes: int, clips: int, size: tuple[int, int], device: str
) -> Iterator[tuple[Method, Tensor, Tensor]]:
    """Model, images and valid on fake tensors, in the precision of the training."""
    model = shape_model(config, num_classes)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        model.to_empty(device=device)
        images = torch.empty(clips, config.data.frames, 3, *size)
        valid = torch.empty(clips, config.data.frames, *size, dtype=torch.bool)
        with _half_precision(device, config.train.precision != "float32"):
            yield model, images, valid


@contextmanager
def _half_precision(device: str, enabled: bool) -> Iterator[None]:
    """Autocast to float16 for a device that may not be there; ``torch.autocast`` turns itself off without a GPU."""
    if not enabled:
        yield
        return
    before: Any = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, torch.float16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])
