"""Less memory for more time: activations inside chosen layers are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import SwinTransformerBlock

TORCHVISION = (BasicBlock, Bottleneck, SwinTransformerBlock)
"""Layers that cannot say ``recomputable`` themselves."""


def recomputable(model: nn.Module) -> list[nn.Module]:
    """The outermost layers that may be computed twice: those whose class says ``recomputable = True``.

    Such a layer reads nothing but its arguments and its weights.
    """
    found: list[nn.Module] = []
    for child in model.children():
        is_layer = isinstance(child, TORCHVISION) or getattr(child, "recomputable", False) is True
        found += [child] if is_layer else recomputable(child)
    return list(dict.fromkeys(found))


def checkpoint_activations(model: nn.Module) -> int:
    """Let every layer that may be computed twice keep only its inputs for the backward pass, in place.

    Results and gradients stay the same, random numbers included. Layers with a live batch norm are left as they are:
    a second pass would count twice in its running statistics.

    Returns:
        The number of layers.
    """
    layers = [layer for layer in recomputable(model) if not _has_batch_norm(layer)]
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)
    return len(layers)


def _has_batch_norm(layer: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in layer.modules())


def _recomputed(forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **named)
    return checkpoint(forward, *args, use_reentrant=False, **named)
