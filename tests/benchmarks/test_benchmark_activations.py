"""What activation checkpointing saves, counted in bytes that are kept for the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from helpers import random_batch, tiny_model
from torch import Tensor, nn

from syncvis.training.activations import checkpoint_activations, recomputable


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def _kept_bytes(model: nn.Module) -> int:
    """Of what autograd saves, and of the inputs of the checkpointed layers; a storage counts once."""
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    def keep_inputs(_: nn.Module, args: tuple[Any, ...]) -> None:
        for x in (tensor for arg in args for tensor in _tensors(arg)):
            keep(x)

    for layer in recomputable(model):
        layer.register_forward_pre_hook(keep_inputs)
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        features = model.encode(*(getattr(random_batch(4), name) for name in ("images", "valid")))
        output = model.decode(features)
    assert output.final is not None
    return sum(storage.nbytes() for storage in kept.values())


def test_checkpointing_keeps_less_than_half() -> None:
    """Of backbone, pixel decoder and query decoder; the losses keep the same."""
    changes = {"model.pixel_decoder.layers": 6, "model.decoder.layers": 9, "sync": None}
    plain, model = tiny_model(changes).train(), tiny_model(changes).train()
    checkpoint_activations(model)
    ratio = _kept_bytes(model) / _kept_bytes(plain)
    print(f"kept for the backward pass: {ratio:.2f} of the bytes without checkpointing")
    assert ratio < 0.5
