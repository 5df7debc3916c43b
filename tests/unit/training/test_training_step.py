"""One optimizer step: passes, precision, and what is random in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import STRUCTURES, random_batch, tiny_config, tiny_model
from processes import even_draws
from torch import Tensor

from syncvis.errors import NonFiniteLossError
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.structures import ClipBatch
from syncvis.training import step as step_module
from syncvis.training.loop import MAX_SKIPPED, Progress, _count_skipped
from syncvis.training.step import StepOutcome, TrainingStep, seed_step

CPU = torch.device("cpu")


def _step(changes: Mapping[str, Any]) -> tuple[Mask2FormerVIS, TrainingStep]:
    model = tiny_model(changes, noise=0.02)
    return model, TrainingStep(model, tiny_config(changes), CPU)


def _single(batch: ClipBatch) -> Iterator[ClipBatch]:
    for i, target in enumerate(batch.targets):
        yield ClipBatch(batch.images[i : i + 1], batch.valid[i : i + 1], (target,))


def _weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_passes_of_equal_clips_equal_one_large_pass() -> None:
    """Each clip has two instances and no query is left out, so each pass divides by half the numbers of both."""
    batch = random_batch(3, (2, 2))
    # Far below AdamW's epsilon a step is proportional to the gradient, so that rounding stays rounding.
    linear = {"train.clip_norm": 1e-9, "train.lr": 1.0, "train.weight_decay": 0, "subclips.absent": "no_object"}
    whole, take_whole = _step(linear)
    parts, take_parts = _step(linear | {"train.accumulate": 2})
    before = _weights(whole)
    with even_draws():
        wanted, found = take_whole(0, [batch]), take_parts(0, _single(batch))
    assert {k: v.item() for k, v in found.losses.items()} == pytest.approx(
        {k: v.item() for k, v in wanted.losses.items()}, rel=1e-5
    )
    assert found.norm.item() == pytest.approx(wanted.norm.item(), rel=1e-4)
    for name, tensor in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], tensor, rtol=0, atol=1e-6)
    assert max((tensor - before[name]).abs().max().item() for name, tensor in _weights(whole).items()) > 1e-3


def test_reported_losses_are_means_over_passes() -> None:
    batch = random_batch(3, (2, 1))
    _, take = _step({"train.accumulate": 2})
    with even_draws():
        model = tiny_model(noise=0.02)
        alone = [model.losses(part) for part in _single(batch)]
        found = take(0, _single(batch))
    for name, value in found.losses.items():
        assert value.item() == pytest.approx((alone[0][name].item() + alone[1][name].item()) / 2, rel=1e-5)
    assert found.total.item() == pytest.approx(sum(v.item() for v in found.losses.values()), rel=1e-5)


def test_every_part_of_a_batch_draws_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[tuple[int, int, int]] = []
    _, take = _step({"train.accumulate": 2, "seed": 7})
    monkeypatch.setattr(step_module, "seed_step", lambda *place: parts.append(place))
    monkeypatch.setattr(step_module, "rank", lambda: 1)
    monkeypatch.setattr(step_module, "world_size", lambda: 3)
    take(5, _single(random_batch(3, (1, 1))))
    assert parts == [(7, 5, 1), (7, 5, 4)]
    draws = []
    for seed, step, part in [(7, 5, 0), (7, 5, 1), (7, 5, 2), (7, 6, 0), (8, 5, 0), (7, 5, 0)]:
        seed_step(seed, step, part)
        draws.append(float(torch.rand(())))
    assert len(set(draws)) == 5
    assert draws[0] == draws[-1]


@pytest.mark.parametrize("instances", [(2, 1), (0, 0)], ids=str)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_parameter_gets_a_gradient(structure: str, instances: tuple[int, ...]) -> None:
    """Also from clips without instances: processes that train together wait for each other's gradients."""
    model, take = _step(STRUCTURES[structure])
    take(0, [random_batch(3, instances)])
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("structure", STRUCTURES)
def test_bf16_is_near_float32(structure: str) -> None:
    batch = random_batch(3, (2, 1))
    _, take_exact = _step(STRUCTURES[structure])
    model, take = _step(STRUCTURES[structure] | {"train.precision": "bf16"})
    used: set[tuple[str, torch.dtype]] = set()
    for name, layer in {"backbone": model.backbone.stem[0], "pixel decoder": model.pixel_decoder.mask_features}.items():
        layer.register_forward_hook(lambda *args, name=name: used.add((name, args[2].dtype)))
    for step in range(3):
        wanted, found = take_exact(step, [batch]), take(step, [batch])
        assert found.total.item() == pytest.approx(wanted.total.item(), rel=0.05)
        assert found.total.item() != wanted.total.item()
    assert used == {("backbone", torch.bfloat16), ("pixel decoder", torch.float32)}
    states = [x for state in take.optimizer.state.values() for x in state.values()]
    assert {x.dtype for x in [*model.parameters(), *states]} == {torch.float32}


def test_fp16_skips_steps_until_the_gradient_fits() -> None:
    model, take = _step({"train.precision": "fp16"})
    before, outcomes = _weights(model), []
    while not outcomes or outcomes[-1].skipped:
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        outcomes.append(take(len(outcomes), [random_batch(3, (2, 1))]))
        assert len(outcomes) < 20
    assert len(outcomes) > 1
    assert [o.loss_scale for o in outcomes] == [2.0 ** (16 - i) for i in range(len(outcomes))]
    assert not all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(math.isfinite(o.total) for o in outcomes)
    assert [("gradient_norm" in o.row(1)) for o in outcomes] == [not o.skipped for o in outcomes]
    assert math.isfinite(outcomes[-1].row(1)["gradient_norm"])


def test_fp16_is_near_float32_once_the_scale_fits() -> None:
    """So a recipe in fp16 can be rehearsed on the CPU."""
    gradients, outcomes = [], []
    for precision in ("float32", "fp16"):
        changes = {"train.precision": precision, "train.clip_norm": 1e9}
        model = tiny_model(changes, noise=0.03)
        take = TrainingStep(model, tiny_config(changes), CPU)
        outcome = take(0, [random_batch(3, (2, 1))])
        while outcome.skipped:
            outcome = take(0, [random_batch(3, (2, 1))])
        outcomes.append(outcome)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    exact, half = outcomes
    assert half.total.item() == pytest.approx(exact.total.item(), rel=1e-3)
    assert half.norm.item() == pytest.approx(exact.norm.item(), rel=0.05)
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.99
    assert not torch.equal(gradients[0], gradients[1])


def test_the_loss_scale_is_part_of_the_state() -> None:
    _, take = _step({"train.precision": "fp16"})
    take(0, [random_batch(3, (2, 1))])
    state = take.state_dict()
    assert state["scaler"]["scale"] == 2.0**15
    _, fresh = _step({"train.precision": "fp16"})
    fresh.load_state_dict(state)
    assert fresh(1, [random_batch(3, (2, 1))]).loss_scale == 2.0**15


def test_fp16_does_not_excuse_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    _, take = _step({"train.precision": "fp16"})
    losses = Mask2FormerVIS.losses
    monkeypatch.setattr(
        Mask2FormerVIS,
        "losses",
        lambda *args, **named: losses(*args, **named) | {"clip/layer0/dice": torch.tensor(math.inf)},
    )
    with pytest.raises(NonFiniteLossError, match="clip/layer0/dice is not finite at step 3"):
        take(3, [random_batch(3, (1,))])


def test_a_long_row_of_skipped_steps_is_an_error() -> None:
    zero = torch.tensor(0.0)
    moved = StepOutcome(1e-4, {}, zero, zero)
    lost = replace(moved, skipped=True)
    progress = Progress(step=60)
    for outcome in [*[lost] * (MAX_SKIPPED - 1), moved, *[lost] * (MAX_SKIPPED - 1)]:
        _count_skipped(progress, outcome)
    with pytest.raises(NonFiniteLossError, match=r"train\.precision: the gradient overflowed in the last 50 steps"):
        _count_skipped(progress, lost)


def test_the_method_hears_how_far_the_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    losses = Mask2FormerVIS.losses

    def listening(self: Mask2FormerVIS, batch: ClipBatch, points: Any = None, progress: float = 1.0) -> Any:
        heard.append(progress)
        return losses(self, batch, points, progress)

    monkeypatch.setattr(Mask2FormerVIS, "losses", listening)
    _, take = _step({"train.steps": 4, "train.accumulate": 2})
    for step in (0, 1, 3):
        take(step, _single(random_batch(3, (1, 1))))
    assert heard == [0.0, 0.0, 0.25, 0.25, 0.75, 0.75]


def test_a_row_sums_over_layers_and_subclips() -> None:
    names = ("clip/layer0/dice", "clip/layer1/dice", "clip/layer1/class", "frame/layer0/dice")
    names += ("subclip0-1/layer0/dice", "subclip1-2/layer1/dice", "temporal/layer0/dice")
    names += ("temporal-subclip0-1/layer0/dice", "temporal-subclip0-2/layer0/dice", "reid/layer2/contrast")
    losses = {name: torch.tensor(2.0**i) for i, name in enumerate(names)}
    row = StepOutcome(0.1, losses, torch.tensor(1.0), torch.tensor(1.0)).row(1)
    assert {key: value for key, value in row.items() if key.startswith("loss/")} == {
        "loss/clip/dice": 1 + 2,
        "loss/clip/class": 4,
        "loss/frame/dice": 8,
        "loss/subclip/dice": 16 + 32,
        "loss/temporal/dice": 64,
        "loss/temporal-subclip/dice": 128 + 256,
        "loss/reid/contrast": 512,
    }


@pytest.mark.parametrize("name", ["contrast", "clip/dice", "clip/layer0/mask/dice", "clip//dice"])
def test_a_loss_of_another_name_is_said_in_the_first_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Mask2FormerVIS.losses
    monkeypatch.setattr(
        Mask2FormerVIS, "losses", lambda *args, **named: losses(*args, **named) | {name: torch.tensor(1.0)}
    )
    _, take = _step({})
    with pytest.raises(ValueError, match=f"losses are named <window or level>/layer<i>/<term>, not '{name}'"):
        take(0, [random_batch(3, (1,))])
