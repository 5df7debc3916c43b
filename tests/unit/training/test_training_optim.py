from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import STRUCTURES, tiny_config, tiny_model
from torch import nn

from syncvis.config import TrainConfig
from syncvis.training.optim import build_optimizer, learning_rate, set_learning_rate


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"milestones": []}, {0: 1, 9: 1}),
        ({"milestones": [0.5]}, {4: 1, 5: 0.1, 9: 0.1}),
        ({"milestones": [0.5, 0.8], "gamma": 0.5}, {4: 1, 5: 0.5, 7: 0.5, 8: 0.25}),
        ({"milestones": [], "warmup": 4}, {0: 0.25, 1: 0.5, 3: 1, 4: 1}),
        ({"milestones": [0.2], "warmup": 4}, {1: 0.5, 2: 0.075}),
        ({"milestones": [4]}, {3: 1, 4: 0.1, 9: 0.1}),
        ({"milestones": [0.3, 5, 1.0]}, {2: 1, 3: 0.1, 4: 0.1, 5: 0.01, 9: 0.01}),
    ],
    ids=str,
)
def test_schedule(settings: dict[str, Any], wanted: dict[int, float]) -> None:
    config = TrainConfig(steps=10, lr=2.0, **settings)
    for step, factor in wanted.items():
        assert learning_rate(config, step) == pytest.approx(2 * factor)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_parameter_is_in_one_group(structure: str) -> None:
    model = tiny_model(STRUCTURES[structure])
    groups = build_optimizer(model, tiny_config().train).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters()}


def test_groups() -> None:
    model = tiny_model()
    config = TrainConfig(steps=1, lr=0.5, weight_decay=0.3, backbone_lr_scale=0.1)
    optimizer = build_optimizer(model, config)
    set_learning_rate(optimizer, 0.5)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            group = group_of[id(parameter)]
            plain = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.Embedding)
            assert group["weight_decay"] == (0 if plain else 0.3), name
            assert group["lr"] == pytest.approx(0.05 if name.startswith("backbone") else 0.5), name
    assert {type(m) for m in model.modules()} >= {nn.LayerNorm, nn.GroupNorm, nn.Embedding}


def test_decay_pulls_weights_to_zero_but_not_norms() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    optimizer = build_optimizer(model, TrainConfig(steps=1, lr=0.1, weight_decay=0.5))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model["linear"].weight, before["linear.weight"] * 0.95)
    assert torch.equal(model["norm"].weight, before["norm.weight"])


class Bias(nn.Module):
    """What torchvision's Swin attention has besides its linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))


@pytest.mark.parametrize(
    ("module", "decays"),
    [
        (nn.Linear(2, 2), True),
        (nn.Conv2d(2, 2, 1), True),
        (nn.MultiheadAttention(2, 1), True),
        (nn.LayerNorm(2), False),
        (nn.RMSNorm(2), False),
        (nn.GroupNorm(1, 2), False),
        (nn.BatchNorm1d(2), False),
        (nn.BatchNorm2d(2), False),
        (nn.SyncBatchNorm(2), False),
        (nn.InstanceNorm2d(2, affine=True), False),
        (nn.Embedding(2, 2), False),
        (Bias(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_decays(module: nn.Module, decays: bool) -> None:
    groups = build_optimizer(nn.ModuleDict({"part": module}), TrainConfig(steps=1)).param_groups
    assert [bool(group["weight_decay"]) for group in groups] == [decays]


def test_position_biases_of_swin_do_not_decay_and_are_of_the_backbone() -> None:
    swin = {"name": "swin_t", "dim": 8, "depths": [1, 1, 1, 1], "heads": [1, 1, 1, 1], "window": 4}
    model = tiny_model({"model.backbone": swin})
    names = {id(p): name for name, p in model.named_parameters()}
    plain = [g for g in build_optimizer(model, tiny_config().train).param_groups if not g["weight_decay"]]
    scales = {names[id(p)]: g["scale"] for g in plain for p in g["params"]}
    tables = [name for name in names.values() if name.endswith("relative_position_bias_table")]
    assert len(tables) == 4
    assert all(scales[name] == pytest.approx(0.1) for name in tables)


def test_frozen_parameters_are_left_out() -> None:
    model = tiny_model({"model.backbone": {"name": "resnet18", "width": 8, "freeze_at": 2}})
    groups = build_optimizer(model, tiny_config().train).param_groups
    ids = {id(p) for group in groups for p in group["params"]}
    frozen = {id(p) for p in model.backbone.parameters() if not p.requires_grad}  # type: ignore[attr-defined]
    assert frozen
    assert ids == {id(p) for p in model.parameters()} - frozen
