"""What holds for the whole model, whatever its weights: equivariance, isolation, settings that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import NUM_CLASSES, STRUCTURES, named_tensors, predict, random_batch, tiny_config, tiny_model
from torch import Tensor

from syncvis.config import AGGREGATIONS
from syncvis.losses.views import Supervision
from syncvis.methods import build
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.models.decoder import CascadeDecoder, QueryDecoder, QuerySet
from syncvis.outputs import LayerOutput, Queries
from syncvis.structures import ClipBatch, Window


def _double(batch: ClipBatch) -> ClipBatch:
    return replace(batch, images=batch.images.double())


def _close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def _equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(x, wanted[name]) for name, x in found.items())


def _like(model: Mask2FormerVIS, changes: dict[str, Any]) -> Mask2FormerVIS:
    """A model of other settings with the same weights, as far as it has them."""
    other = build(tiny_config(changes), NUM_CLASSES)
    state = model.state_dict()
    assert other.state_dict().keys() <= state.keys()
    other.load_state_dict({name: state[name] for name in other.state_dict()})
    return other


@pytest.mark.parametrize("order", ["frame_first", "video_first", "frame_to_video", "video_to_frame"])
def test_momentum_zero_is_no_sync_bit_for_bit(order: str) -> None:
    model = tiny_model({"sync.momentum": 0, "sync.order": order})
    without = _like(model, {"sync": None})
    batch = random_batch(3, (2, 1))
    assert _equal(named_tensors(predict(model, batch)), named_tensors(predict(without, batch)))
    losses = []
    for one in (model, without):
        torch.manual_seed(3)
        losses.append(one.losses(batch))
    assert _equal(*losses)


def test_a_new_model_differs_from_one_without_sync_in_the_sync_only() -> None:
    """The exchange is built last, so the same seed gives all other parts the same weights."""
    models = []
    for changes in ({}, {"sync": None}):
        torch.manual_seed(0)
        models.append(build(tiny_config(changes), NUM_CLASSES).state_dict())
    assert all(torch.equal(tensor, models[0][name]) for name, tensor in models[1].items())


@pytest.mark.parametrize(
    "changes",
    [{"sync.aggregation": name} for name in AGGREGATIONS] + [STRUCTURES["cascade"], STRUCTURES["video_only"]],
    ids=str,
)
def test_without_time_code_the_order_of_frames_does_not_matter(changes: dict[str, Any]) -> None:
    model = tiny_model(changes | {"model.decoder.time_code": False}).double()
    order = [2, 0, 3, 1]
    batch = _double(random_batch(4, (1, 1)))
    moved = replace(batch, images=batch.images[:, order])
    wanted = {}
    for name, value in named_tensors(predict(model, batch)).items():
        wanted[name] = value if "video.class" in name else value[:, :, order] if "video" in name else value[:, order]
    _close(named_tensors(predict(model, moved)), wanted)


def test_the_time_code_tells_the_order_of_frames() -> None:
    model = tiny_model({"sync": None}).double()
    batch = _double(random_batch(4))
    moved = replace(batch, images=batch.images.flip(1))
    before, after = predict(model, batch).final, predict(model, moved).final
    assert before.video is not None
    assert after.video is not None
    assert (before.video.class_logits - after.video.class_logits).abs().max() > 1e-4


def test_frame_queries_follow_their_frames_with_the_time_code() -> None:
    model = tiny_model(STRUCTURES["frame_only"]).double()
    batch = _double(random_batch(4))
    moved = replace(batch, images=batch.images.flip(1))
    wanted = {name: value.flip(1) for name, value in named_tensors(predict(model, batch)).items()}
    _close(named_tensors(predict(model, moved)), wanted)


def _query_sets(model: Mask2FormerVIS) -> dict[str, QuerySet]:
    decoder = model.decoder
    if isinstance(decoder, CascadeDecoder):
        return {"frame": decoder.frames.query_sets["frame"], "video": decoder.query_set}
    return dict(decoder.query_sets.items())


@pytest.mark.parametrize("level", ["frame", "video"])
@pytest.mark.parametrize(
    "changes",
    [STRUCTURES["cascade"]] + [{"sync.aggregation": name} for name in AGGREGATIONS],
    ids=str,
)
def test_permuting_the_queries_permutes_the_outputs(changes: dict[str, Any], level: str) -> None:
    model = tiny_model(changes).double()
    batch = _double(random_batch(3, (1, 1)))
    before = named_tensors(predict(model, batch))
    queries = _query_sets(model)[level]
    order = torch.randperm(queries.content.num_embeddings, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for table in (queries.content, queries.position):
            table.weight.copy_(table.weight[order])
    axis = {"frame": 2, "video": 1}[level]
    wanted = {n: x.index_select(axis, order) if f".{level}." in n else x for n, x in before.items()}
    _close(named_tensors(predict(model, batch)), wanted)


def _same_points_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on all clips and masks are sampled at the same points."""
    points = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: points[: shape[1]].expand(shape))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_batch_of_two_is_two_batches_of_one(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and, at the same sample points, the matching."""
    model = tiny_model(STRUCTURES[structure]).double()
    both = _double(random_batch(3, (2, 3)))
    _same_points_everywhere(monkeypatch)
    single = [ClipBatch(both.images[b : b + 1], both.valid[b : b + 1], both.targets[b : b + 1]) for b in (0, 1)]
    outputs = [named_tensors(predict(model, one)) for one in single]
    _close(named_tensors(predict(model, both)), {n: torch.cat([x, outputs[1][n]]) for n, x in outputs[0].items()})
    assert _matches(model, both) == _matches(model, single[0]) | {
        (level, clip + 1, *rest) for level, clip, *rest in _matches(model, single[1])
    }


def _matches(model: Mask2FormerVIS, batch: ClipBatch) -> set[tuple[Any, ...]]:
    """(level, clip, frame or window, query, instance) of the last layer."""
    found: set[tuple[Any, ...]] = set()
    windows = [Window.whole(3), *model.subclips(3)]
    supervision = Supervision(batch.targets, model.criterion.points)
    for level, m in model.criterion.levels(predict(model, batch), supervision, windows)[1].items():
        last = m.output == m.output.max()
        rows = torch.stack([m.clip, m.window, m.query, m.instance], 1)[last].tolist()
        found |= {(level, c // 3, c % 3, q, g) if level == "frame" else (level, c, w, q, g) for c, w, q, g in rows}
    assert found
    return found


def test_the_score_is_irrelevant_when_all_queries_are_selected() -> None:
    model = tiny_model({"sync.num_selected": 5})
    batch = random_batch(3, (1, 1))
    outputs = [
        named_tensors(predict(_like(model, {"sync.num_selected": n, "sync.aggregation": name}), batch))
        for name in AGGREGATIONS
        for n in (5, 50)
    ]
    assert all(_equal(outputs[0], other) for other in outputs[1:])


def test_the_strategies_differ_when_a_few_queries_are_selected() -> None:
    model = tiny_model({"sync.num_selected": 1})
    batch = random_batch(3, (1, 1))
    outputs = [
        named_tensors(predict(_like(model, {"sync.num_selected": 1, "sync.aggregation": name}), batch))
        for name in ("class_prediction", "query_similarity", "mask_similarity")
    ]
    assert not _equal(outputs[0], outputs[1])
    assert not _equal(outputs[0], outputs[2])
    assert not _equal(outputs[1], outputs[2])


@pytest.mark.parametrize("placement", ["losses", "decode"])
@pytest.mark.parametrize("size", [3, 4])
def test_a_subclip_of_the_whole_clip_is_no_subclip(placement: str, size: int) -> None:
    model = tiny_model({"subclips.size": size, "subclips.placement": placement})
    without = _like(model, {"subclips": None})
    batch = random_batch(3, (2, 1))
    losses = []
    for one in (model, without):
        torch.manual_seed(0)
        losses.append(one.losses(batch))
    assert _equal(*losses)


def test_losses_of_a_decoded_window_are_those_of_its_frames_as_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model({"subclips.placement": "decode", "subclips.factor": 0.5})
    batch = random_batch(3, (2, 1))
    _same_points_everywhere(monkeypatch)
    losses = model.losses(batch)
    cut = ClipBatch(batch.images[:, 1:], batch.valid[:, 1:], tuple(t.window((1, 2)) for t in batch.targets))
    alone = model.losses(cut)
    for name, value in alone.items():
        if name.startswith("clip/"):
            torch.testing.assert_close(losses[name.replace("clip", "subclip1-2")], 0.5 * value)


def _frame_outputs(model: Mask2FormerVIS, batch: ClipBatch) -> dict[str, Tensor]:
    return {name: x for name, x in named_tensors(predict(model, batch)).items() if ".frame." in name}


@pytest.mark.parametrize(
    ("changes", "isolated"),
    [
        (STRUCTURES["frame_only"], True),
        (STRUCTURES["cascade"], True),
        ({"sync": None}, True),
        ({"sync.order": "frame_to_video"}, True),
        ({"sync.order": "frame_first"}, False),
        ({"sync.order": "video_to_frame"}, False),
    ],
    ids=str,
)
def test_frame_queries_see_other_frames_through_the_exchange_only(changes: dict[str, Any], isolated: bool) -> None:
    model = tiny_model(changes)
    batch = random_batch(3)
    images = batch.images.clone()
    images[:, 2] = 1 - images[:, 2]
    before, after = _frame_outputs(model, batch), _frame_outputs(model, replace(batch, images=images))
    same = _equal({n: x[:, :2] for n, x in before.items()}, {n: x[:, :2] for n, x in after.items()})
    assert same == isolated
    assert not torch.equal(before["layer3.frame.class"][:, 2], after["layer3.frame.class"][:, 2])


def test_sync_is_called_after_every_layer() -> None:
    model = tiny_model()
    decoder = model.decoder
    assert isinstance(decoder, QueryDecoder)
    assert len(decoder.sync) == 1
    calls = []
    decoder.sync[0].register_forward_hook(lambda *_: calls.append(1))
    assert len(predict(model, random_batch(3)).layers) == 3 + 1
    assert len(calls) == 3


def test_the_exchange_after_the_last_layer_reaches_the_result() -> None:
    """With one layer there is no other exchange."""
    changes = {"model.decoder.layers": 1}
    model, batch = tiny_model(changes), random_batch(3)
    still = _like(model, changes | {"sync.momentum": 0})
    found, wanted = (named_tensors(predict(m, batch)) for m in (model, still))
    changed = {name for name in found if not torch.equal(found[name], wanted[name])}
    assert changed == {name for name in found if name.startswith("layer1.")}


def test_the_decoder_predicts_from_what_the_sync_returns() -> None:
    seen: list[tuple[Queries, LayerOutput]] = []

    def fake(queries: Queries, output: LayerOutput) -> Queries:
        seen.append((queries, output))
        return Queries(queries.frame, torch.zeros_like(queries.video))  # type: ignore[arg-type]

    model = tiny_model({"sync": None})
    decoder = model.decoder
    assert isinstance(decoder, QueryDecoder)
    decoder._syncs = (decoder._syncs[0], fake, decoder._syncs[0])
    output = predict(model, random_batch(2))
    assert len(seen) == 1
    queries, before = seen[0]
    after = output.layers[2]
    assert before.frame is not None
    assert after.frame is not None
    assert after.video is not None
    assert queries.frame is not None
    norm = model.decoder.stacks[0].heads.norm  # type: ignore[union-attr]
    assert torch.equal(before.frame.embeddings, norm(queries.frame))
    assert torch.equal(after.frame.embeddings, before.frame.embeddings)
    assert torch.equal(after.video.embeddings, norm(torch.zeros(1, 4, 32)))


def test_in_one_frame_equal_queries_of_both_levels_see_the_same() -> None:
    """Without a code of time and an exchange, whatever level they are of."""
    model = tiny_model({"sync": None, "model.decoder.time_code": False, "model.decoder.video_queries": 5})
    sets = _query_sets(model)
    sets["video"].load_state_dict(sets["frame"].state_dict())
    for layer in predict(model, random_batch(1)).layers:
        frame, video = layer.both()
        torch.testing.assert_close(video.class_logits, frame.class_logits[:, 0])
        torch.testing.assert_close(video.mask_logits[:, :, 0], frame.mask_logits[:, 0])


def test_the_first_layer_starts_with_what_the_hook_makes_of_the_queries() -> None:
    model, batch = tiny_model(), random_batch(2)
    features = model.encode(batch.images, batch.valid)
    decoder = model.decoder
    assert isinstance(decoder, QueryDecoder)
    started = decoder(features, lambda queries, seen: Queries(queries.frame, queries.video * 0 + seen.num_frames))  # type: ignore[operator]
    learned, changed = decoder(features).layers[0].both(), started.layers[0].both()
    assert torch.equal(changed[0].embeddings, learned[0].embeddings)
    norm = decoder.stacks[0].heads.norm
    assert torch.equal(changed[1].embeddings, norm(torch.full((1, 4, 32), 2.0)))  # type: ignore[operator]


def test_shared_and_separate_weights() -> None:
    def count(shared: bool) -> int:
        model = tiny_model({"model.decoder.shared": shared, "sync": None})
        return sum(p.numel() for part in model.decoder.stacks for p in part.parameters())  # type: ignore[union-attr]

    assert count(shared=False) == 2 * count(shared=True)


def test_sync_weights_serve_all_layers() -> None:
    counts = [
        sum(p.numel() for p in tiny_model({"model.decoder.layers": n}).decoder.sync.parameters())  # type: ignore[union-attr]
        for n in (2, 4)
    ]
    assert counts[0] == counts[1] > 0


def test_images_are_normalised_and_padding_is_zero() -> None:
    model = tiny_model()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[attr-defined]
    batch = random_batch(1)
    valid = batch.valid.clone()
    valid[..., 40:] = False
    model.encode(batch.images, valid)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(seen[0][..., :40], ((batch.images[:, 0] - mean) / std)[..., :40])
    assert not seen[0][..., 40:].any()
