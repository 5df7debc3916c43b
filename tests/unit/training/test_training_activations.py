"""Activation checkpointing changes nothing but memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import STRUCTURES, random_batch, tiny_model
from torch import Tensor, nn

from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.training.activations import checkpoint_activations

RESNET: dict[str, Any] = {"model.backbone": {"name": "resnet18", "width": 8}}
RESNET_LIVE: dict[str, Any] = {"model.backbone": {"name": "resnet18", "width": 8, "norm": "batch"}}
SWIN: dict[str, Any] = {
    "model.backbone": {"name": "swin_t", "dim": 8, "depths": [1, 1, 2, 1], "heads": [1, 1, 2, 2], "window": 4}
}
# Residual or transformer blocks of the backbone, one encoder layer, three decoder layers (six in a cascade).
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "synchronous": (STRUCTURES["synchronous"], 4 + 1 + 3),
    "cascade": (STRUCTURES["cascade"], 4 + 1 + 6),
    "video_only": (STRUCTURES["video_only"], 4 + 1 + 3),
    "resnet": (RESNET, 8 + 1 + 3),
    "resnet, live norms": (RESNET_LIVE, 0 + 1 + 3),
    "swin, drop path": (SWIN, 5 + 1 + 3),
}


def _train(model: Mask2FormerVIS) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a training pass."""
    torch.manual_seed(3)
    losses = model.train().losses(random_batch(3, (2, 1)))
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in losses.items()}, gradients


def _assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


@pytest.mark.parametrize(("changes", "layers"), CASES.values(), ids=CASES)
def test_losses_gradients_and_statistics_are_bit_equal(changes: dict[str, Any], layers: int) -> None:
    plain, model = tiny_model(changes, noise=0.02), tiny_model(changes, noise=0.02)
    assert checkpoint_activations(model) == layers
    for found, wanted in zip(_train(model), _train(plain), strict=True):
        _assert_equal(found, wanted)
    _assert_equal(dict(model.named_buffers()), dict(plain.named_buffers()))
    _assert_equal(model.state_dict(), plain.state_dict())


def test_layers_are_computed_twice_in_training_and_once_without_gradient() -> None:
    model = tiny_model()
    checkpoint_activations(model)
    calls: list[int] = []
    norm: nn.Module = model.pixel_decoder.layers[0].norm
    norm.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model.losses(random_batch(3))
    assert len(calls) == 1
    _train(model)
    assert len(calls) == 3


class _Layer(nn.Module):
    """A layer that this package does not know, with an inner one of its kind."""

    recomputable = True

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.inner = _Layer(depth - 1) if depth else nn.Identity()
        self.calls = 0

    def forward(self, x: Tensor, *, shift: Tensor) -> Tensor:
        self.calls += 1
        x = self.linear(x + shift).relu()
        return self.inner(x, shift=shift) if isinstance(self.inner, _Layer) else x


def test_layers_of_any_method_are_found_by_their_mark_the_outermost_only() -> None:
    torch.manual_seed(0)
    shared = _Layer(0)
    plain = nn.ModuleList([_Layer(1), shared, nn.ModuleList([shared, nn.Linear(4, 4)])])
    model = copy.deepcopy(plain)
    assert checkpoint_activations(model) == 2
    gradients = []
    for layers in (plain, model):
        shift = torch.ones(4, requires_grad=True)
        torch.manual_seed(1)
        layers[1](layers[0](torch.rand(3, 4), shift=shift), shift=shift).square().sum().backward()
        gradients.append([shift.grad, *(p.grad for p in layers.parameters() if p.grad is not None)])
    assert len(gradients[0]) == len(gradients[1]) == 7
    assert all(torch.equal(found, wanted) for found, wanted in zip(*gradients, strict=True))
    assert [layer.calls for layer in (plain[0], plain[0].inner, plain[1])] == [1, 1, 1]
    assert [layer.calls for layer in (model[0], model[0].inner, model[1])] == [2, 2, 2]
