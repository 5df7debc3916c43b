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

from syncvis.models.backbone import ResidualBlock
from syncvis.models.decoder import DecoderLayer
from syncvis.models.pixel_decoder import DeformableEncoderLayer

LAYERS = (ResidualBlock, BasicBlock, Bottleneck, SwinTransformerBlock, DeformableEncoderLayer, DecoderLayer)


def checkpoint_activations(model: nn.Module) -> int:
    """Let every layer of the classes ``LAYERS`` keep only its inputs for the backward pass, in place.

    Results and gradients stay the same, random numbers included. Layers with a live batch norm are left as they are:
    a second pass would count twice in its running statistics.

    Returns:
        The number of layers.
    """
    layers = [module for module in model.modules() if isinstance(module, LAYERS) and not _has_batch_norm(module)]
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)  # type: ignore[method-assign]
    return len(layers)


def _has_batch_norm(layer: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in layer.modules())


def _recomputed(forward: Callable[..., Any], *args: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args)
    return checkpoint(forward, *args, use_reentrant=False)
