"""What a step costs: parameters to the last one, FLOPs and kept bytes against real passes and known networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import NUM_CLASSES, STRUCTURES, method_changes, random_batch, tiny_config, tiny_model
from torch import nn

from syncvis.config import load_config
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.training.cost import (
    BACKWARD,
    clip_flops,
    count_parameters,
    counting_device,
    fake_forward_cost,
    memory,
    shape_model,
    training_size,
)
from syncvis.training.meter import ForwardCost, _Meter, forward_cost, forward_flops

RECIPES = Path(__file__).parents[3] / "experiments" / "recipes"


def _parameters(name: str) -> dict[str, int]:
    counts = count_parameters(shape_model(load_config(RECIPES / f"{name}.yaml"), 40))
    return {part: count.total for part, count in counts.items()}


def test_parameters_of_mask2former_vis() -> None:
    """Those of the published R50 model for 40 classes."""
    parts = _parameters("mask2former_vis_ytvis_2019_r50")
    assert parts["backbone"] == 23_454_912
    assert parts["pixel decoder"] == 6_035_904
    assert parts["decoder layers"] + parts["heads"] + parts["video queries"] == 14_469_161
    assert parts["heads"] == 197_376 + 10_537 + 512  # mask MLP, class layer, norm
    assert sum(parts.values()) == 43_959_977


def test_what_syncvis_adds() -> None:
    base = _parameters("mask2former_vis_ytvis_2019_r50")
    added = {part: count for part, count in _parameters("syncvis_ytvis_2019_r50").items() if count != base.get(part)}
    assert added == {"exchange attention": 2 * 263_168, "exchange FFN": 2 * 1_051_392, "frame queries": 51_200}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_parts_sum_to_the_model(structure: str) -> None:
    model = shape_model(tiny_config(STRUCTURES[structure]), NUM_CLASSES)
    counts = count_parameters(model)
    assert sum(count.total for count in counts.values()) == sum(p.numel() for p in model.parameters())
    assert counts.keys() <= model.parts.keys()


def test_rows_are_the_method_s_and_then_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mask2FormerVIS, "parts", {"head": r".*\bheads\.", "decoder": r"decoder\."})
    model = shape_model(tiny_config(), NUM_CLASSES)
    model.add_module("clip_memory", nn.Linear(3, 2))
    counts = count_parameters(model)
    assert list(counts) == ["head", "decoder", "backbone", "pixel decoder", "clip memory"]
    assert counts["clip memory"].total == 3 * 2 + 2
    assert sum(count.total for count in counts.values()) == sum(p.numel() for p in model.parameters())


def test_frozen_parts() -> None:
    frozen = {"model.backbone": {"name": "resnet18", "width": 8, "freeze_at": 1}}
    counts = count_parameters(shape_model(tiny_config(frozen), NUM_CLASSES))
    assert counts["backbone"].frozen == 3 * 8 * 7 * 7
    assert counts["backbone"].trainable > 0


@pytest.mark.parametrize("structure", STRUCTURES)
def test_fake_tensors_count_what_real_ones_do(structure: str) -> None:
    batch = random_batch(3, instances=(1, 2))
    real = forward_cost(tiny_model(STRUCTURES[structure]), batch.images, batch.valid)
    assert fake_forward_cost(tiny_config(STRUCTURES[structure]), NUM_CLASSES, 2, (32, 64), "cpu") == real
    assert set(real.flops) >= {"backbone", "pixel_decoder", "decoder"}
    assert forward_flops(tiny_model(STRUCTURES[structure]), batch.images, batch.valid) == sum(real.flops.values())


def test_a_part_that_another_part_calls_counts_for_itself() -> None:
    """The decoder calls the taxonomy: with it, the decoder and all else cost what they cost without."""
    changes = method_changes("tmt_vis") | {"sync": None}
    found = fake_forward_cost(tiny_config(changes), NUM_CLASSES, 2, (32, 64), "cpu").flops
    alone = fake_forward_cost(tiny_config(STRUCTURES["video_only"]), NUM_CLASSES, 2, (32, 64), "cpu").flops
    assert {name: count for name, count in found.items() if name != "taxonomy"} == alone
    # Of 2 clips, 3 frames and 32 channels: the text of 3 classes, their questions to 4 x 8 cells ...
    text = 3 * (6 * 32 + 2 * 32 * 32)
    frames = 6 * (2 * 3 * 32 * 32 + 2 * 4 * 8 * 32 * 32 + 2 * 3 * 4 * 8 * 32)
    video = 2 * (2 * 4 * 32 * 32 + 2 * 2 * 32 * 32 + 2 * 4 * 2 * 32)  # ... and 4 queries that read 2 of the answers
    assert found["taxonomy"] == 2 * (text + frames + video)


def test_flops_of_a_known_backbone() -> None:
    """torchvision's page gives 4.09 G multiplications for ResNet-50 at 224 x 224, 2 M of them in its class layer."""
    changes = {"model.backbone": {"name": "resnet50"}, "model.decoder.layers": 1, "data.frames": 1}
    config = tiny_config({**changes, **STRUCTURES["video_only"]})
    flops = fake_forward_cost(config, NUM_CLASSES, 1, (224, 224), counting_device()).flops["backbone"]
    assert flops == pytest.approx(2 * (4.09e9 - 2.048e6), rel=0.002)


def _saved(changes: Mapping[str, Any]) -> dict[str, int]:
    """Of a model with as little decoder as possible."""
    little = {**STRUCTURES["video_only"], "model.decoder.layers": 1}
    return fake_forward_cost(tiny_config({**little, **changes}), NUM_CLASSES, 1, (64, 64), counting_device()).saved


def test_a_frozen_backbone_keeps_nothing() -> None:
    backbone = {"name": "resnet18", "width": 8}
    assert _saved({"model.backbone": backbone})["backbone"] > 0
    assert "backbone" not in _saved({"model.backbone": {**backbone, "freeze_at": 5}})


def test_half_precision_keeps_less() -> None:
    """Half of the maps of the backbone, and its weights a second time."""
    changes = {**STRUCTURES["video_only"], "model.backbone": {"name": "resnet18", "width": 8}, "data.frames": 1}
    full, half = (
        fake_forward_cost(
            tiny_config({**changes, "train.precision": p}), NUM_CLASSES, 1, (256, 256), counting_device()
        ).saved["backbone"]
        for p in ("float32", "bf16")
    )
    assert 0.4 * full < half < 0.9 * full
    assert not torch.is_autocast_enabled(counting_device())


def test_parts_that_do_not_learn_keep_nothing_and_need_no_moments() -> None:
    changes = {**STRUCTURES["video_only"], "model.decoder.layers": 1}
    whole, stage = (tiny_config({**changes, "train.trained": trained}) for trained in (None, ["decoder"]))
    costs = [fake_forward_cost(config, NUM_CLASSES, 1, (64, 64), "cpu") for config in (whole, stage)]
    assert set(costs[0].saved) > set(costs[1].saved) == {"decoder"}
    models = [shape_model(config, NUM_CLASSES) for config in (whole, stage)]
    needed = memory(models[1], costs[1])
    learning = 4 * sum(p.numel() for name, p in models[0].named_parameters() if name.startswith("decoder."))
    assert (needed.gradients, needed.optimizer) == (learning, 2 * learning)
    assert needed.weights == memory(models[0], costs[0]).weights


class _Squares(nn.Module):
    """Squares its input, and cubes it for nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x * x * x
        return x * x


def test_a_module_that_is_called_by_itself_counts_for_its_child() -> None:
    model = nn.ModuleDict(
        {"pair": nn.ModuleList([nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 5))]), "end": nn.Identity()}
    )
    counted = _Meter(model)
    with counted.running():
        x = model["pair"][0](torch.rand(7, 3))
        x @ torch.rand(2, 4)
        model["end"](model["pair"][1](x))
    assert counted.flops() == {"pair": 2 * 7 * (3 * 2 + 2 * 5), "input": 2 * 7 * 2 * 4}


def test_what_the_graph_no_longer_holds_is_not_counted() -> None:
    model = nn.Sequential(_Squares())
    counted = _Meter(model)
    x = torch.rand(100, requires_grad=True)
    with counted.running():
        y = model[0](x * 2)
        assert counted.saved_bytes() == {"0": 400}
        del y
    assert counted.saved_bytes() == {}


def test_memory_adds_up() -> None:
    model = tiny_model()
    batch = random_batch(3)
    cost = forward_cost(model, batch.images, batch.valid)
    needed = memory(model, cost)
    parameters = 4 * sum(p.numel() for p in model.parameters())
    assert needed.gradients == parameters
    assert needed.optimizer == 2 * parameters
    assert needed.weights == parameters + 4 * sum(b.numel() for b in model.buffers())
    assert needed.activations == sum(cost.saved.values())
    assert needed.total == sum(vars(needed).values())


FREEZABLE = {"model.backbone": {"name": "resnet18", "width": 8}, **STRUCTURES["video_only"]}


def _cost(trained: list[str] | None) -> ForwardCost:
    config = tiny_config({**FREEZABLE, "train.trained": trained})
    return fake_forward_cost(config, NUM_CLASSES, 2, (64, 64), counting_device())


def test_the_backward_pass_of_what_learns_costs_twice_the_forward_pass() -> None:
    cost = _cost(None)
    wanted = {child: BACKWARD * flops for child, flops in cost.flops.items()}
    assert cost.backward == wanted


def test_a_frozen_encoder_has_no_backward_pass_and_keeps_nothing() -> None:
    whole, cost = _cost(None), _cost(["decoder"])
    assert cost.flops == whole.flops
    assert cost.backward == {"decoder": BACKWARD * cost.flops["decoder"]}
    assert set(cost.saved) == {"decoder"}
    assert "pixel_decoder" in whole.saved


def test_a_gradient_passes_a_frozen_part_once_per_product() -> None:
    """The decoder is frozen above a pixel decoder that learns; its backbone is frozen below."""
    cost = _cost(["pixel_decoder"])
    assert cost.backward["pixel_decoder"] == BACKWARD * cost.flops["pixel_decoder"]
    assert 0 < cost.backward["decoder"] <= cost.flops["decoder"]
    assert "backbone" not in cost.backward
    assert "backbone" not in cost.saved


def test_flops_of_a_clip_follow_what_learns() -> None:
    for trained in (None, ["decoder"]):
        config = tiny_config({**FREEZABLE, "train.trained": trained})
        cost = fake_forward_cost(config, NUM_CLASSES, 1, training_size(config), counting_device())
        assert clip_flops(config, NUM_CLASSES) == sum(cost.flops.values()) + sum(cost.backward.values())
