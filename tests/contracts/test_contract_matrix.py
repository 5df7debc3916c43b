"""Every base method with every module: what must hold for whoever adds one. The methods come from their table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    METHOD_SETTINGS,
    MODULES,
    NUM_CLASSES,
    method_changes,
    method_model,
    named_tensors,
    predict,
    random_batch,
    tiny_config,
)
from torch import Tensor

from syncvis.config import AGGREGATIONS, METHODS, EvalConfig, OnlineSettings
from syncvis.losses.views import Supervision
from syncvis.methods import build
from syncvis.methods.assemble import build_criterion, subclip_plan
from syncvis.methods.base import Method
from syncvis.outputs import ClipOutput, LayerOutput, LevelOutput, VideoTracks
from syncvis.references import allow
from syncvis.structures import ClipBatch, ClipTarget, VideoPrediction, Window
from syncvis.training.checkpoint import load_weights, save_weights
from syncvis.training.inference import predict_chunks

SYNCS: dict[str, dict[str, Any]] = {"no_sync": {"sync": None}} | {
    name: {"sync.aggregation": name, "sync.num_selected": 2, "sync.momentum": 0.3} for name in AGGREGATIONS
}
SUBCLIPS: dict[str, dict[str, Any]] = {"no_subclips": {"subclips": None}, "subclips": {"subclips.size": 2}}
SHAPES: dict[str, tuple[int, tuple[int, ...]]] = {
    "one frame": (1, (2,)),
    "two clips": (3, (0, 7)),
    "no instance": (3, (0, 0)),
    "longer": (5, (2,)),
}


OWN = os.environ.get("SYNCVIS_METHODS", "").split()
"""Methods from outside of the package, ``module:function``, which hold to the same contract."""
allow(name.partition(":")[0] for name in OWN)


@pytest.fixture(params=[*METHODS, *OWN])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _like(model: Method, method: str, changes: Mapping[str, Any]) -> Method:
    """A model with other settings and, where it has them, the weights of ``model``."""
    other = build(tiny_config(method_changes(method) | dict(changes)), NUM_CLASSES)
    own = model.state_dict()
    other.load_state_dict({name: own[name] for name in other.state_dict()})
    return other


def _cannot_learn(name: str) -> bool:
    """Constants that what follows takes out again: a softmax the key bias, a norm of one channel a bias before it."""
    return name.endswith("key.bias") or ("input_proj" in name and name.endswith(".0.bias"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("subclips", SUBCLIPS)
@pytest.mark.parametrize("sync", SYNCS)
def test_losses_are_finite_and_every_weight_learns(method: str, sync: str, subclips: str, shape: str) -> None:
    model = method_model(method, SYNCS[sync] | SUBCLIPS[subclips])
    num_frames, instances = SHAPES[shape]
    losses = model.losses(random_batch(num_frames, instances))
    for name, value in losses.items():
        assert len(name.split("/")) == 3, name
        assert value.shape == (), name
        assert torch.isfinite(value), name
    has_subclips = any("subclip" in name.split("/")[0] for name in losses)
    assert has_subclips == (subclips == "subclips" and num_frames > 2)
    torch.stack(list(losses.values())).sum().backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, p in learning.items() if p.grad is None or not torch.isfinite(p.grad).all()]
    if any(instances) and num_frames > 1:
        still = [name for name, p in learning.items() if p.grad is not None and not p.grad.any()]
        assert not [name for name in still if not _cannot_learn(name)]


@pytest.mark.parametrize("modules", MODULES)
def test_predictions_have_the_shapes_of_their_level(method: str, modules: str) -> None:
    model = method_model(method, MODULES[modules])
    for training in (True, False):
        output = predict(model.train(training), random_batch(3, (1, 1)))
        assert output.named()
        for name, level in output.named().items():
            queries = level.embeddings.shape[-2]
            lead = (2, 3) if level.level == "frame" else (2,)
            tubes = (2, 3, queries) if level.level == "frame" else (2, queries, 3)
            assert level.mask_features.shape[:2] == (2, 3), name
            assert level.embeddings.shape[:-1] == (*lead, queries), name
            assert level.class_logits.shape == (*lead, queries, NUM_CLASSES + 1), name
            assert level.mask_logits.shape == (*tubes, *level.mask_features.shape[-2:]), name
            assert level.class_probabilities_by_frame.shape == (2, 3, queries, NUM_CLASSES), name


@pytest.mark.parametrize("modules", MODULES)
def test_training_mode_changes_no_prediction(method: str, modules: str) -> None:
    model, batch = method_model(method, MODULES[modules]), random_batch(3)
    training, evaluation = (named_tensors(predict(model.train(mode), batch)) for mode in (True, False))
    assert all(torch.equal(x, evaluation[name]) for name, x in training.items())


def test_what_the_modules_add(method: str) -> None:
    """A query set, and two exchanges of an attention with four projections and an FFN; every other weight stays."""
    sizes = {
        modules: {name: p.numel() for name, p in method_model(method, changes).named_parameters()}
        for modules, changes in MODULES.items()
    }
    base, synced, both = (sizes[name] for name in ("none", "+SVFM", "+both"))
    assert base.items() <= sizes["+SEO"].items() <= both.items()
    assert synced == both
    added = {name: size for name, size in synced.items() if name not in base}
    exchange = {name for name in added if re.search(r"\bsync\.", name)}
    assert sum(added[name] for name in exchange) == 2 * (4 * (32 * 32 + 32) + 2 * (32 * 32 + 32) + 2 * 32)
    assert all("query_sets." in name for name in added.keys() - exchange)


def test_no_exchange_is_the_base_and_a_little_is_not(method: str) -> None:
    """Momentum 0 leaves every number of the base as it is, bit for bit; momentum 0.05 changes each level."""
    shared = {"subclips.size": 2}
    synced = method_model(method, shared | {"sync.momentum": 0.05})
    still = _like(synced, method, shared | {"sync.momentum": 0})
    base = _like(synced, method, shared | {"sync": None})
    batch = random_batch(3, (2, 1))
    found, wanted, changed = (named_tensors(predict(m.eval(), batch)) for m in (still, base, synced))
    assert wanted.keys() <= found.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    last = max((name for name in changed if name.startswith("layer")), key=lambda name: int(name[5:].split(".")[0]))
    assert not torch.equal(changed[last], found[last])
    assert sum(not torch.equal(changed[name], found[name]) for name in changed) > len(changed) / 2


def test_weights_come_back_from_a_file(method: str, tmp_path: Path) -> None:
    model, other = (method_model(method, MODULES["+both"], seed).eval() for seed in (0, 1))
    batch = random_batch(3)
    before = named_tensors(predict(model, batch))
    assert any(not torch.equal(x, before[name]) for name, x in named_tensors(predict(other, batch)).items())
    save_weights(tmp_path / "model.safetensors", model, {})
    load_weights(other, tmp_path / "model.safetensors")
    assert all(torch.equal(x, before[name]) for name, x in named_tensors(predict(other, batch)).items())


def _predict(model: Method, batch: ClipBatch, chunk: int) -> VideoPrediction:
    chunks = (ClipBatch(x, v) for x, v in zip(batch.images.split(chunk, 1), batch.valid.split(chunk, 1), strict=True))
    return predict_chunks(model, chunks, (32, 64), (32, 64), 0, EvalConfig(), torch.device("cpu"))


def _double(batch: ClipBatch) -> ClipBatch:
    return replace(batch, images=batch.images.double())


@pytest.mark.parametrize("modules", MODULES)
def test_the_length_of_a_chunk_changes_no_track(method: str, modules: str) -> None:
    model = method_model(method, MODULES[modules]).double().eval()
    batch = _double(random_batch(9))
    first, *others = (_predict(model, batch, chunk) for chunk in (1, 2, 7))
    assert any(len({str(mask) for mask in track.masks}) > 1 for track in first.tracks)
    for other in others:
        assert [t.masks for t in other.tracks] == [t.masks for t in first.tracks]
        assert [t.label for t in other.tracks] == [t.label for t in first.tracks]
        assert [t.score for t in other.tracks] == pytest.approx([t.score for t in first.tracks])


def _tracks(model: Method, videos: Sequence[ClipBatch]) -> list[VideoTracks]:
    """Tracks of videos whose frames come in turn, one of each."""
    streams = [model.stream() for _ in videos]
    with torch.no_grad():
        for t in range(max(video.num_frames for video in videos)):
            for stream, video in zip(streams, videos, strict=True):
                if t < video.num_frames:
                    stream.step(model.encode(video.images[:, t : t + 1], video.valid[:, t : t + 1]))
        return [stream.finish() for stream in streams]


@pytest.mark.parametrize("modules", MODULES)
def test_videos_in_turn_do_not_mix(method: str, modules: str) -> None:
    model = method_model(method, MODULES[modules]).double().eval()
    videos = [_double(random_batch(num_frames, seed=num_frames)) for num_frames in (6, 4)]
    together = _tracks(model, videos)
    for found, video in zip(together, videos, strict=True):
        (wanted,) = _tracks(model, [video])
        candidates = len(found.scores)
        assert found.scores.shape == (candidates, NUM_CLASSES)
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert found.seen.shape == found.mask_embeddings.shape[:2] == (video.num_frames, candidates)
        assert len(found.mask_features) == video.num_frames
        for field in fields(VideoTracks):
            torch.testing.assert_close(getattr(found, field.name), getattr(wanted, field.name))
    assert not torch.equal(together[0].mask_embeddings[0], together[1].mask_embeddings[0])


@pytest.mark.parametrize("modules", MODULES)
@pytest.mark.parametrize(
    "method", [name for name, (settings, _) in METHODS.items() if issubclass(settings, OnlineSettings)]
)
def test_an_online_method_sees_no_later_frame(method: str, modules: str) -> None:
    """What a video has in its first frames does not change with those that come after."""
    model = method_model(method, MODULES[modules]).double().eval()
    video = _double(random_batch(6))
    head = ClipBatch(video.images[:, :4], video.valid[:, :4])
    (long,), (short,) = _tracks(model, [video]), _tracks(model, [head])
    assert short.seen.any()
    for t in range(4):
        later, found = (x.mask_embeddings[t, x.seen[t]] for x in (long, short))
        torch.testing.assert_close(later, found)


@pytest.mark.parametrize("modules", MODULES)
def test_a_video_that_stands_still_keeps_its_identities(method: str, modules: str) -> None:
    """Nothing of one video is left for the next, and every track has the same mask in all frames."""
    model = method_model(method, MODULES[modules]).double().eval()
    one = _double(random_batch(1))
    still = replace(one, images=one.images.expand(-1, 6, -1, -1, -1), valid=one.valid.expand(-1, 6, -1, -1))
    first = _predict(model, still, 2)
    _predict(model, _double(random_batch(5, seed=1)), 2)
    again = _predict(model, still, 2)
    assert first == again
    for track in first.tracks:
        assert len({str(mask) for mask in track.masks[1:]}) == 1
    if modules in ("none", "+SEO"):
        assert all(len({str(mask) for mask in track.masks}) == 1 for track in first.tracks)


def test_the_padding_is_never_read(method: str) -> None:
    model = method_model(method, MODULES["+both"]).double().eval()
    batch = random_batch(2)
    images, valid = batch.images.double(), batch.valid.clone()
    valid[..., 24:, :] = False
    painted = images.clone()
    painted[..., 24:, :] = 7
    outputs = [named_tensors(predict(model, ClipBatch(x, valid))) for x in (images, painted)]
    assert all(torch.equal(x, outputs[1][key]) for key, x in outputs[0].items())


def test_the_same_seed_gives_the_same_losses(method: str) -> None:
    model, batch = method_model(method, MODULES["+both"]), random_batch(3, (2, 1))
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        losses.append(model.losses(batch))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(value, losses[1][name]) for name, value in losses[0].items())


def test_the_parts_of_a_method_hold_all_its_weights(method: str) -> None:
    """Each row of the dry run has weights, and no weight is left for the row "other"."""
    model = method_model(method, MODULES["+both"])
    rows = {
        name: next((row for row, pattern in model.parts.items() if re.match(pattern, name)), None)
        for name, _ in model.named_parameters()
    }
    assert not [name for name, row in rows.items() if row is None]


def test_the_settings_of_tiny_methods_are_of_methods() -> None:
    assert METHOD_SETTINGS.keys() <= METHODS.keys()


def test_look_alikes_that_swap_are_matched_anew_in_each_sub_clip() -> None:
    """Two instances of one class change their queries in the last frame; each sub-clip takes what it sees itself."""
    masks = torch.zeros(2, 3, 8, 16, dtype=torch.bool)
    masks[0, :, 2:6, 1:6], masks[1, :, 2:6, 9:14] = True, True
    target = ClipTarget(torch.tensor([1, 1]), torch.arange(2), masks)
    config = tiny_config({"subclips.size": 2, "criterion.points": 64})
    criterion, plan = build_criterion(config), subclip_plan(config)
    features = torch.where(masks, 9.0, -9.0).transpose(0, 1)[None]
    features[:, 2] = features[:, 2].flip(1)
    output = _tubes(features)
    windows = [Window.whole(3), *plan(3), Window("subclip2", (2,))]
    _, matches = criterion.levels(output, Supervision([target], criterion.points), windows)
    found = matches["video"]
    pairs = {
        (w, q, g) for w, q, g in zip(*(x.tolist() for x in (found.window, found.query, found.instance)), strict=True)
    }
    straight, swapped = [(0, 0), (1, 1)], [(0, 1), (1, 0)]
    assert pairs >= {(w, q, g) for w in (0, 1) for q, g in straight}
    assert pairs >= {(3, q, g) for q, g in swapped}


def _tubes(features: Tensor) -> ClipOutput:
    queries = features.shape[2]
    codes = torch.eye(queries)[None]
    level = LevelOutput("video", codes, torch.zeros(1, queries, NUM_CLASSES + 1), codes, features, None)
    return ClipOutput((LayerOutput(video=level),))
