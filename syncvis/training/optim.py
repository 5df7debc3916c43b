"""Optimizer and learning-rate schedule of the Mask2Former family."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from syncvis.config import TrainConfig

# _NormBase: batch norms (also synchronised ones) and instance norms of every dimension.
PLAIN_MODULES = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase, nn.Embedding)
PLAIN_NAMES = ("relative_position_bias_table",)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a smaller rate for the backbone and no weight decay for norms, embeddings and Swin's position biases.

    Frozen parameters are left out. Every group carries ``scale``, the factor of its rate against the base rate.
    (Mask2Former, train_net.py)
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                plain = isinstance(module, PLAIN_MODULES) or name in PLAIN_NAMES
                groups.setdefault((module_name.startswith("backbone"), plain), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "scale": config.backbone_lr_scale if in_backbone else 1.0,
                "weight_decay": 0.0 if plain else config.weight_decay,
            }
            for (in_backbone, plain), parameters in groups.items()
        ],
        lr=config.lr,
        fused=True,
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Base rate of a step: linear warm-up, then a decay by gamma from each milestone on.

    A milestone up to 1 is a fraction of all steps, a larger one is a number of steps.
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    passed = sum(step >= (at if at > 1 else at * config.steps) for at in config.milestones)
    return config.lr * warm * config.gamma**passed


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
