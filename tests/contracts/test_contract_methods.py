"""Mask2Former-VIS in any setting and shape: forward, finite losses, backward, every weight learns.

What holds for all methods is in ``test_contract_matrix.py``.
"""

from __future__ import annotations

from itertools import cycle, product
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from helpers import NUM_CLASSES, STRUCTURES, predict, random_batch, tiny_config, tiny_model

from syncvis.config import AGGREGATIONS, WINDOWS
from syncvis.outputs import ClipOutput
from syncvis.structures import ClipBatch

QUERIES = {"frame": 5, "video": 4}
LAYERS = 3

SYNCS: dict[str, dict[str, Any]] = {
    "no_sync": {"sync": None},
    **{name: {"sync.aggregation": name} for name in AGGREGATIONS},
    "frame_first": {"sync.order": "frame_first"},
    "video_first": {"sync.order": "video_first"},
    "frame_to_video": {"sync.order": "frame_to_video"},
    "video_to_frame": {"sync.order": "video_to_frame"},
    "no_ffn": {"sync.query_ffn": False},
    "more_selected_than_queries": {"sync.num_selected": 99},
    "momentum_1": {"sync.momentum": 1},
    "unshared": {"model.decoder.shared": False},
    "no_time_code": {"model.decoder.time_code": False},
    "joint": {"criterion.tube_reduction": "joint"},
    "stride_2": {"model.backbone.base_stride": 2},
}
ARRANGEMENTS = {f"synchronous-{name}": changes for name, changes in SYNCS.items()} | {
    name: changes for name, changes in STRUCTURES.items() if name != "synchronous"
}

SUBCLIPS: dict[str, dict[str, Any]] = {"no_subclips": {"subclips": None}} | {
    "-".join(choice): dict(
        zip(("subclips.windows", "subclips.placement", "subclips.absent", "subclips.weights"), choice, strict=True)
    )
    | ({"subclips.step": 2} if choice[0] == "strided" else {})
    for choice in product(WINDOWS, ("losses", "decode"), ("ignore", "no_object"), ("uniform", "edges"))
}
SOME_SUBCLIPS = [
    "no_subclips",
    "neighbours-losses-ignore-uniform",
    "all_pairs-losses-no_object-edges",
    "neighbours-decode-no_object-edges",
]

# (T, instances of each clip): one and two clips; none, some and more than the queries.
SHAPES = [(num_frames, instances) for num_frames in (1, 2, 3, 5) for instances in ((2,), (0, 7), (0, 0))]


def _arrangements_with_subclips() -> list[Any]:
    pairs = [(a, s) for a in ARRANGEMENTS for s in SOME_SUBCLIPS if a != "frame_only" or s == "no_subclips"]
    pairs += [("synchronous-frame_first", s) for s in SUBCLIPS if s not in SOME_SUBCLIPS]
    shapes = [shape for shape in SHAPES if any(shape[1])]
    return [pytest.param(a, s, shape, id=f"{a}-{s}") for (a, s), shape in zip(pairs, cycle(shapes), strict=False)]


def _check_shapes(output: ClipOutput, num_clips: int, num_frames: int, mask_size: tuple[int, int]) -> None:
    assert len(output.layers) == LAYERS + 1
    for layer in output.layers:
        for level in layer.levels():
            per_frame = (num_clips, num_frames, QUERIES["frame"])
            lead = per_frame if level.level == "frame" else (num_clips, QUERIES["video"])
            masks = per_frame if level.level == "frame" else (num_clips, QUERIES["video"], num_frames)
            assert level.embeddings.shape == (*lead, 32)
            assert level.class_logits.shape == (*lead, NUM_CLASSES + 1)
            assert level.mask_embeddings.shape == (*lead, 16)
            assert level.mask_logits.shape == (*masks, *mask_size)


def _check_losses(losses: dict[str, torch.Tensor], windows: list[str], levels: set[str]) -> None:
    names = ({"frame"} if "frame" in levels else set()) | (set(windows) if "video" in levels else set())
    expected = {f"{n}/layer{i}/{term}" for n in names for i in range(LAYERS + 1) for term in ("class", "mask", "dice")}
    assert set(losses) == expected
    for name, value in losses.items():
        assert value.shape == (), name
        assert torch.isfinite(value), name


def _train_once(changes: dict[str, Any], batch: ClipBatch) -> Any:
    """Forward with its checks, then backward; the model with its gradients."""
    model = tiny_model(changes)
    structure = changes.get("method.structure", "synchronous")
    levels = {"frame_only": {"frame"}, "video_only": {"video"}}.get(structure, {"frame", "video"})
    output = predict(model, batch)
    assert {level.level for level in output.final.levels()} == levels
    stride = changes.get("model.backbone.base_stride", 4)
    _check_shapes(output, len(batch.targets), batch.num_frames, (32 // stride, 64 // stride))
    losses = model.losses(batch)
    _check_losses(losses, ["clip", *(w.name for w in model.subclips(batch.num_frames))], levels)
    assert all(value.requires_grad for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    return model


def _cannot_learn(name: str) -> bool:
    """Constants that what follows takes out again: a softmax the key bias, a norm of one channel a bias before it."""
    return name.endswith("key.bias") or ("input_proj" in name and name.endswith(".0.bias"))


@pytest.mark.parametrize(("arrangement", "subclips", "shape"), _arrangements_with_subclips())
def test_every_setting_trains(arrangement: str, subclips: str, shape: tuple[int, tuple[int, ...]]) -> None:
    changes = SUBCLIPS[subclips] | ARRANGEMENTS[arrangement]
    model = _train_once(changes, random_batch(*shape))
    still = [n for n, p in model.named_parameters() if not _cannot_learn(n) and not p.grad.any()]
    assert not still


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_shape_trains(structure: str, shape: tuple[int, tuple[int, ...]]) -> None:
    placement = {} if structure == "frame_only" else {"subclips.size": 3}
    _train_once(placement | STRUCTURES[structure], random_batch(*shape))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_number_of_layers(layers: int) -> None:
    model = tiny_model({"model.decoder.layers": layers})
    batch = random_batch(2)
    assert len(predict(model, batch).layers) == layers + 1
    torch.stack(list(model.losses(batch).values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_settings_cover_the_config() -> None:
    """A new choice in the config must come into this file."""
    config = tiny_config()
    for section, tried in ((config.sync, SYNCS), (config.subclips, SUBCLIPS)):
        assert section is not None
        for name, field in type(section).model_fields.items():
            choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
            values = {v for changes in tried.values() for key, v in changes.items() if key.endswith(f".{name}")}
            assert set(choices) <= values
