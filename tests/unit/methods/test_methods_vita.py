"""VITA as a whole: what the temporal module reads, what its losses are, and who predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import METHOD_SETTINGS, MODULES, NUM_CLASSES, method_changes, method_model, random_batch, tiny_config

from syncvis.config import VITASettings, load_config
from syncvis.errors import ConfigError
from syncvis.losses.matcher import Matches
from syncvis.losses.points import GivenPoints
from syncvis.losses.views import Supervision
from syncvis.methods import build
from syncvis.methods.vita import VITA, VITAOutput
from syncvis.structures import ClipBatch, Window
from syncvis.training.cost import count_parameters, shape_model

RECIPES = Path(__file__).parents[3] / "experiments" / "recipes"
LAYERS, BRANCHES, CLIP_LAYERS = 3, 2, 2
TERMS = ("class", "mask", "dice")


def _model(modules: str = "none", **settings: Any) -> VITA:
    changes = {**MODULES[modules], **{key.replace("__", "."): value for key, value in settings.items()}}
    model = method_model("vita", changes)
    assert isinstance(model, VITA)
    return model.double()


def _batch(num_frames: int, instances: tuple[int, ...] = (2, 1)) -> ClipBatch:
    batch = random_batch(num_frames, instances)
    return replace(batch, images=batch.images.double())


def _decoded(model: VITA, batch: ClipBatch, video: bool = False) -> VITAOutput:
    features = model.encode(batch.images, batch.valid)
    return model.decode_video(features) if video else model.decode(features)


@pytest.mark.parametrize("recipe", ["vita", "syncvis_vita"])
def test_published_number_of_parameters(recipe: str) -> None:
    counts = count_parameters(shape_model(load_config(RECIPES / f"{recipe}_ytvis_2019_r50.yaml"), 40))
    assert counts["temporal module"].total == 13_175_081
    assert ("video queries" in counts) == (recipe == "syncvis_vita")


@pytest.mark.parametrize("modules", ["none", "+SVFM"])
def test_the_temporal_module_reads_the_last_outputs_of_the_frame_queries(modules: str) -> None:
    """As the exchange leaves them, each of the last layers by itself."""
    model, batch = _model(modules), _batch(3)
    output = _decoded(model, batch)
    frames = [o.embeddings for o in output.of("frame")[-BRANCHES:]]
    assert not torch.equal(*frames)
    for branch, queries in enumerate(frames):
        alone = model.temporal(queries)
        for layer in range(CLIP_LAYERS):
            found = output.named()[f"temporal{layer}.branch{branch}"]
            torch.testing.assert_close(found.class_logits, alone.class_logits[layer])
            torch.testing.assert_close(found.mask_embeddings, alone.mask_embeddings[layer])
    first, second = (output.named()[f"temporal1.branch{branch}"].class_logits for branch in range(BRANCHES))
    assert (first - second).abs().max() > 1e-3


def test_a_video_has_the_last_branch_and_shifted_windows() -> None:
    model, batch = _model(), _batch(5, (2,))
    output = _decoded(model, batch, video=True)
    assert output.branches == 1
    last = output.of("frame")[-1].embeddings
    shifted, plain = (model.temporal(last, shift).class_logits[-1] for shift in (True, False))
    torch.testing.assert_close(output.clips[-1].class_logits, shifted)
    torch.testing.assert_close(_decoded(model, batch).clips[-1].class_logits, plain)
    assert (shifted - plain).abs().max() > 1e-6


@pytest.mark.parametrize("modules", ["none", "+SVFM"])
def test_with_one_window_the_order_of_frames_does_not_matter(modules: str) -> None:
    model, batch = _model(modules, method__window=0), _batch(4)
    order = [2, 0, 3, 1]
    mixed = replace(batch, images=batch.images[:, order])
    for before, after in zip(_decoded(model, batch).clips, _decoded(model, mixed).clips, strict=True):
        torch.testing.assert_close(after.class_logits, before.class_logits)
        torch.testing.assert_close(after.mask_logits, before.mask_logits[:, :, order])


def _names(windows: list[str], layers: int) -> set[str]:
    return {f"{window}/layer{layer}/{term}" for window in windows for layer in range(layers) for term in TERMS}


@pytest.mark.parametrize("placement", ["losses", "decode"])
@pytest.mark.parametrize("modules", MODULES)
def test_names_of_the_losses(modules: str, placement: str) -> None:
    """Sub-clips are on the clip queries' predictions, and on those of the video queries where there are any."""
    if modules in ("none", "+SVFM"):
        model, windows = _model(modules), []
    else:
        model, windows = _model(modules, subclips__placement=placement), ["subclip0-1", "subclip1-2"]
    wanted = _names(["frame"], LAYERS + 1) | _names(["temporal", *(f"temporal-{w}" for w in windows)], CLIP_LAYERS)
    if modules in ("+SVFM", "+both"):
        wanted |= _names(["clip", *windows], LAYERS + 1)
    assert set(model.losses(_batch(3))) == wanted | {f"temporal/layer{CLIP_LAYERS - 1}/similarity"}


def test_a_clip_loss_is_the_mean_over_its_branches() -> None:
    model, batch = _model("+SEO"), _batch(3)
    output = _decoded(model, batch)
    windows = [Window.whole(3), *model.subclips(3)]

    def losses(branches: list[int], together: int) -> Mapping[str, torch.Tensor]:
        outputs = [output.clips[layer * BRANCHES + b] for layer in range(CLIP_LAYERS) for b in branches]
        source = _same_points(batch)
        view = Supervision(batch.targets, source).of_clips(outputs, windows, "temporal", together)
        return model.criterion(view)[0]

    both, alone = losses([0, 1], BRANCHES), [losses([branch], 1) for branch in range(BRANCHES)]
    assert both.keys() == alone[0].keys()
    for name, value in both.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)
        assert not torch.equal(alone[0][name], alone[1][name])


class _SamePoints(GivenPoints):
    """The same points for all masks of the losses, whatever their number."""

    def losses(self, logits: torch.Tensor) -> torch.Tensor:
        return self.loss_points[0].expand(len(logits), -1, -1).to(logits)


def _same_points(batch: ClipBatch, seed: int = 0) -> _SamePoints:
    points = torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(seed))
    return _SamePoints([points.expand(len(batch.targets), -1, -1)], [points])


def test_points_are_given_to_each_view() -> None:
    model, batch = _model(), _batch(3)
    one, other = _same_points(batch), _same_points(batch, seed=1)
    first, again, changed = (model.losses(batch, {"frame": one, "temporal": source}) for source in (one, one, other))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(torch.equal(value, changed[name]) for name, value in first.items() if name.startswith("frame/"))
    masks = [name for name in first if name.startswith("temporal/") and name.endswith("/mask")]
    assert not any(torch.equal(first[name], changed[name]) for name in masks)


def _embeddings_by_instance(
    matches: Matches, first: int, embeddings: list[torch.Tensor], num_frames: int
) -> list[tuple[int, int, int, torch.Tensor]]:
    """(branch, clip, instance, embedding) of the pairs of the outputs from ``first`` on."""
    found = []
    pairs = zip(*(x.tolist() for x in (matches.output, matches.clip, matches.query, matches.instance)), strict=True)
    for output, clip, query, instance in pairs:
        if output >= first:
            found.append(
                (output - first, clip // num_frames, instance, embeddings[output - first][clip, query].detach())
            )
    return found


@pytest.mark.parametrize("modules", ["none", "+SEO"])
def test_the_similarity_loss_compares_what_the_losses_matched(modules: str) -> None:
    """Of the last layers of the frame decoder and the last layer of the clip decoder, on the whole clip."""
    model, batch = _model(modules), _batch(3, (2, 3))
    points = _same_points(batch)
    losses = model.losses(batch, points)
    output, supervision = _decoded(model, batch), Supervision(batch.targets, points)
    frames = model.criterion(supervision.of_frames(output.of("frame"), 1.0))[1]
    clips = model.criterion(supervision.of_clips(output.clips, [Window.whole(3)], "temporal", BRANCHES))[1]
    of_frames = list(output.temporal.frame_similarity.unflatten(0, (BRANCHES, -1)).flatten(1, 2))
    of_clips = list(output.temporal.clip_similarity.unflatten(0, (BRANCHES, -1)))
    members = _embeddings_by_instance(frames, LAYERS + 1 - BRANCHES, of_frames, 3)
    members += _embeddings_by_instance(clips, (CLIP_LAYERS - 1) * BRANCHES, of_clips, 1)
    total = count = 0.0
    for branch, clip, instance, x in members:
        for other_branch, other_clip, other, y in members:
            if (branch, clip) == (other_branch, other_clip):
                total += math.log1p(math.exp(float(x @ y) * (-1 if instance == other else 1)))
                count += 1
    found = losses[f"temporal/layer{CLIP_LAYERS - 1}/similarity"]
    assert found.item() == pytest.approx(model.similarity_weight * total / count, rel=1e-4)
    assert count > 2 * 3**2


def test_clip_queries_have_a_mask_map_of_their_own() -> None:
    """Their losses change the module's own projection of the raw map, and not that of the frame queries."""
    model, batch = _model(), _batch(3)
    losses = {name: value for name, value in model.losses(batch).items() if name.startswith("temporal/")}
    torch.stack([value for name, value in losses.items() if not name.endswith("/similarity")]).sum().backward()
    assert model.pixel_decoder.mask_features.weight.grad is None
    for layer in (model.temporal.mask_features, model.pixel_decoder.smooth[0]):
        assert isinstance(layer.weight.grad, torch.Tensor)
        assert layer.weight.grad.any()


@pytest.mark.parametrize("final", ["clip", "video"])
def test_who_predicts(final: str) -> None:
    model, batch = _model("+SVFM", method__final=final), _batch(3, (2,))
    features = model.encode(batch.images, batch.valid)
    output, tracks = model.decode_video(features), model.tracks(features)
    level = output.clips[-1] if final == "clip" else output.final.video
    assert level is not None
    torch.testing.assert_close(tracks.scores, level.class_logits[0].softmax(-1)[:, :-1])
    everything = torch.arange(len(tracks.scores))
    torch.testing.assert_close(tracks.mask_logits(everything, 0, 3), level.mask_logits[0])
    assert tracks.seen.all()


@pytest.mark.parametrize("compat", [False, True])
def test_what_is_published_is_asked_for(compat: bool) -> None:
    model, batch = _model(method__compat=compat, method__window=6), _batch(5, (2,))
    features = model.encode(batch.images, batch.valid)
    assert model.tracks(features).sure_at_input == compat
    last = model.decode(features).clips[-1].class_logits
    assert ((model.decode_video(features).clips[-1].class_logits - last).abs().max() > 1e-6) == compat


def test_settings_that_follow_the_decoder() -> None:
    method = tiny_config({"method": {"name": "vita", "branches": 1}}).method
    assert isinstance(method, VITASettings)
    assert (method.clip_queries, method.heads, method.ffn_dim) == (5, 2, 32)
    settings = {"name": "vita", "branches": 1, "clip_queries": 7, "heads": 4, "ffn_dim": None}
    changed = tiny_config({"method": settings, "model.decoder.ffn_dim": 64})
    assert isinstance(changed.method, VITASettings)
    assert (changed.method.clip_queries, changed.method.heads, changed.method.ffn_dim) == (7, 4, 64)
    assert (changed.criterion.tube_reduction, changed.model.decoder.time_code) == ("joint", False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"branches": 4}, r"method\.branches: 4 of the decoder's 3 layers are too many"),
        ({"heads": 3}, r"method\.heads: hidden_dim 32 is not divisible by 3"),
        ({"final": "video"}, r"method\.final: without sync there are no video queries"),
        ({"structure": "synchronous"}, "structure"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], words: str) -> None:
    settings = {"name": "vita", **METHOD_SETTINGS["vita"], **changes}
    with pytest.raises(ConfigError, match=words):
        tiny_config({**method_changes("vita"), "method": settings})


def test_the_temporal_module_starts_the_same_with_and_without_modules() -> None:
    states = []
    for modules in ("none", "+both"):
        torch.manual_seed(0)
        model = build(tiny_config({**method_changes("vita"), **MODULES[modules]}), NUM_CLASSES)
        states.append(model.get_submodule("temporal").state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
