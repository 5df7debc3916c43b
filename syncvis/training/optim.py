"""Optimizer and learning-rate schedule of the Mask2Former family."""

from __future__ import annotations

import torch
from torch import nn

from syncvis.config import TrainConfig

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a smaller rate for the backbone and no weight decay for norms and embeddings.

    Every group carries ``scale``, the factor of its rate against the base rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for module_name, module in model.named_modules():
        plain = isinstance(module, (*NORMS, nn.Embedding))
        for parameter in module.parameters(recurse=False):
            key = (module_name.startswith("backbone"), plain)
            groups.setdefault(key, []).append(parameter)
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
    """Base rate of a step: linear warm-up, then a decay by gamma after each milestone."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    passed = sum(step >= fraction * config.steps for fraction in config.milestones)
    return config.lr * warm * config.gamma**passed


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
