"""What learns in a stage of a training, and what stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import NUM_CLASSES, random_batch, tiny_config
from torch import Tensor, nn

from syncvis.errors import ConfigError
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.training.run import count_parameters, run
from syncvis.training.step import TrainingStep

LIVE: dict[str, Any] = {"model.backbone": {"name": "resnet18", "width": 8, "norm": "batch"}, "train.weight_decay": 1.0}
"""A backbone whose batch norms count what they see."""


def _model(trained: Sequence[str] | None, changes: dict[str, Any] = LIVE) -> Method:
    torch.manual_seed(0)
    return build(tiny_config({**changes, "train.trained": trained}), NUM_CLASSES)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in module.state_dict().items()}


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Top-level parts that have changed."""
    return {name.split(".")[0] for name, x in before.items() if not torch.equal(x, after[name])}


@pytest.mark.parametrize(
    "trained", [("decoder",), ("backbone", "decoder"), ("pixel_decoder",), None], ids=lambda t: str(t)
)
def test_only_what_learns_moves(trained: tuple[str, ...] | None) -> None:
    """Weights and running statistics, over three steps with an evaluation between."""
    model = _model(trained)
    before = _state(model)
    take = TrainingStep(model, tiny_config({**LIVE, "train.trained": trained, "train.lr": 0.01}), torch.device("cpu"))
    for step in range(3):
        take(step, [random_batch(3, (2, 1))])
        model.eval()
        model.train()
    learning = {"backbone", "pixel_decoder", "decoder"} if trained is None else set(trained)
    assert _moved(before, _state(model)) == learning
    names = {name: name.split(".")[0] for name, _ in model.named_parameters()}
    assert {names[n] for n, p in model.named_parameters() if p.grad is not None} == learning
    stated = {id(p) for p in take.optimizer.state}
    assert {names[n] for n, p in model.named_parameters() if id(p) in stated} == learning
    statistics = {name.split(".")[0] for name in before if "running_mean" in name}
    assert statistics == {"backbone"}


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    model = _model(("decoder",))
    for _ in range(2):
        modes = {name: {m.training for m in child.modules()} for name, child in model.named_children()}
        assert modes == {"backbone": {False}, "pixel_decoder": {False}, "decoder": {True}}
        assert model.training
        assert not any(m.training for m in model.eval().modules())
        model.train()


def test_what_has_no_weights_keeps_its_mode() -> None:
    model = _model(None)
    model.add_module("dropout", nn.Dropout(0.5))
    model.learn_only(["decoder"])
    assert model.get_submodule("dropout").training


def test_parts_that_the_backbone_freezes_stay_frozen() -> None:
    frozen = {"model.backbone": {"name": "resnet18", "width": 8, "freeze_at": 2}}
    model = _model(("backbone",), frozen)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith(("backbone.stages.1.", "backbone.stages.2.", "backbone.stages.3.")) for name in learning)


def test_a_method_says_what_learns_unless_the_config_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mask2FormerVIS, "trained", ("decoder",))
    for trained, wanted in ((None, {"decoder"}), (("pixel_decoder",), {"pixel_decoder"})):
        model = _model(trained)
        assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == wanted


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as error:
        _model(("decoder", "tracker"))
    wanted = "train.trained: the model has no part tracker. Fix: choose from backbone, pixel_decoder, decoder"
    assert str(error.value) == wanted


def test_it_is_said_before_the_data_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncvis.training.run.look", lambda *_: pytest.fail("looked at the data"))
    with pytest.raises(ConfigError, match="the model has no part tracker"):
        run(tiny_config({"train.trained": ["tracker"]}, tmp_path), tmp_path / "run")


def test_a_stage_in_which_nothing_learns() -> None:
    frozen = {"model.backbone": {"name": "resnet18", "width": 8, "freeze_at": 5}}
    with pytest.raises(ConfigError, match=r"train\.trained: nothing in backbone learns"):
        _model(("backbone",), frozen)
    with pytest.raises(ConfigError, match=r"train\.trained"):
        tiny_config({"train.trained": []})


def test_numbers_of_parameters() -> None:
    everything, model = _model(None), _model(("decoder",))
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in everything.named_children()}
    assert count_parameters(everything) == {**sizes, "total": sum(sizes.values())}
    decoder, others = sizes["decoder"], sizes["backbone"] + sizes["pixel_decoder"]
    assert count_parameters(model) == {
        "backbone": 0, "pixel_decoder": 0, "decoder": decoder, "total": decoder, "frozen": others
    }  # fmt: skip
