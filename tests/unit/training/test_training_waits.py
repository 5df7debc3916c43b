"""How often the host waits for the device in a training step, counted on a device that is not there."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from helpers import MODULES, STRUCTURES, method_changes, method_model, random_batch, tiny_config
from stand_in_device import DEVICE, OnDevice, counted_waits, put_on_device
from torch import Tensor, nn

from syncvis.config import METHODS, TrainConfig
from syncvis.structures import ClipBatch
from syncvis.training import step as step_module
from syncvis.training.step import Row, TrainingStep
from syncvis.transfer import to_device, to_host

PLAIN_AND_SYNC = ("none", "+both")


@pytest.fixture(autouse=True)
def _simple_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused AdamW has kernels for real devices only; there it does not wait."""

    def build(model: nn.Module, config: TrainConfig) -> torch.optim.SGD:
        group = {"params": [p for p in model.parameters() if p.requires_grad], "scale": 1.0}
        return torch.optim.SGD([group], lr=config.lr, foreach=False)

    monkeypatch.setattr(step_module, "build_optimizer", build)


def _row(method: str, changes: dict[str, Any], passes: list[ClipBatch]) -> tuple[Row, Row, int]:
    """The row of a step on the CPU, and on the stand-in the row and how often the host waited."""
    config = tiny_config(method_changes(method) | changes)
    expected = TrainingStep(method_model(method, changes), config, torch.device("cpu"))(0, passes).row(1)
    with counted_waits() as waits:
        model = method_model(method, changes)
        put_on_device(model)
        take = TrainingStep(model, config, DEVICE)
        waits.clear()
        row = take(0, passes).row(1)
    assert set(waits) <= {"_to_copy"}, waits
    return row, expected, waits.total()


@pytest.mark.parametrize("instances", [(2, 1), (5, 4), (0, 0)], ids=str)
@pytest.mark.parametrize("modules", PLAIN_AND_SYNC)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_its_matchings_and_for_its_log(
    method: str, modules: str, instances: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the numbers of layers, windows, clips and instances. CTVIS also looks which instances a cut clip has."""
    monkeypatch.setattr("syncvis.methods.ctvis.prefix_length", lambda *_: 2)
    row, expected, waits = _row(method, MODULES[modules], [random_batch(3, instances)])
    assert row == pytest.approx(expected, rel=1e-4)
    assert waits == 2 + (method == "ctvis" and modules == "+both")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_and_any_number_of_layers(structure: str) -> None:
    changes = MODULES["none"] | STRUCTURES[structure] | {"model.decoder.layers": 6}
    row, expected, waits = _row("mask2former_vis", changes, [random_batch(3, (2, 1))])
    assert row == pytest.approx(expected, rel=1e-4)
    assert waits == 2


@pytest.mark.parametrize(
    ("changes", "matchings"), [({"train.accumulate": 2}, 2), ({"subclips.placement": "decode"}, 3)], ids=str
)
def test_every_decoded_clip_of_every_pass_is_matched_by_itself(changes: dict[str, Any], matchings: int) -> None:
    passes = [random_batch(3, (2, 1), seed) for seed in range(changes.get("train.accumulate", 1))]
    row, expected, waits = _row("mask2former_vis", MODULES["+both"] | changes, passes)
    assert row == pytest.approx(expected, rel=1e-4)
    assert waits == matchings + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_the_same() -> None:
    """PyTorch's own count. The first step also starts libraries."""
    model = method_model("mask2former_vis", MODULES["+both"]).to("cuda")
    take = TrainingStep(model, tiny_config(MODULES["+both"]), torch.device("cuda"))
    take(0, [random_batch(3, (2, 1))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            take(1, [random_batch(3, (2, 1))]).row(2)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing CUDA operation" in str(x.message) for x in caught) == 2


def test_the_stand_in_counts_what_waits() -> None:
    with counted_waits() as waits:
        x = OnDevice(torch.tensor([[1.0, 0.0], [2.0, 3.0]]))
        found: list[Any] = [float(x[0, 0]), bool((x > 2).any()), x.cpu().tolist(), x.tolist()]
        assert found == [1.0, True, [[1, 0], [2, 3]], [[1, 0], [2, 3]]]
        assert waits == {"_local_scalar_dense": 2, "_to_copy": 2}
        waits.clear()
        assert x[x > 0].tolist() == [1, 2, 3]
        assert x.nonzero().shape == (3, 2)
        assert x.new_tensor([1.0]).device == x[[1]].device == torch.tensor([1], device=DEVICE).device == DEVICE
        assert waits == {
            "index sized by values": 1,
            "_to_copy": 1,
            "nonzero sized by values": 1,
            "_to_copy of host data": 3,
        }
        waits.clear()
        rows = torch.tensor([1, 0]).to(DEVICE, non_blocking=True)
        y = nn.Parameter(x)
        (y[rows] * torch.arange(2, device=DEVICE)).sum().backward()
        assert isinstance(y.grad, OnDevice)
        assert not waits
        assert y.grad.tolist() == [[0, 1], [0, 1]]
        with pytest.raises(AssertionError, match="mixes tensors of host and device"):
            x + torch.ones(2)


def test_tensors_travel_together() -> None:
    given = [torch.rand(2, 3), torch.rand(2, 0), torch.tensor([[True], [False]]), torch.tensor(4.0)]
    with counted_waits() as waits:
        there = [OnDevice(x) for x in given]
        _same(to_host(there), given)
        assert waits == {"_to_copy": 1}
        numbers = [torch.arange(6).view(2, 3), torch.tensor(7), torch.arange(0)]
        moved = to_device(numbers, DEVICE)
        assert all(isinstance(x, OnDevice) for x in moved)
        assert waits == {"_to_copy": 1}
        _same(to_host(moved), numbers)
    _same(to_host(given), given)


def _same(found: list[Tensor], wanted: list[Tensor]) -> None:
    for x, y in zip(found, wanted, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert torch.equal(x, y)
