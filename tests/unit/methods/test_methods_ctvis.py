"""CTVIS: its contrast, cut clips, and what it decodes at test time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import MODULES, level_output, method_model, random_batch, tiny_config
from torch import Tensor

from syncvis.config import TrackerConfig
from syncvis.losses.contrast import ContrastItems, contrast_losses, memory_items
from syncvis.losses.matcher import Matches
from syncvis.losses.points import RandomPoints
from syncvis.losses.views import Supervision
from syncvis.methods.ctvis import CTVIS, IdentifiedOutput, build_tracker, prefix_length
from syncvis.models.heads import identity_head
from syncvis.online.association import TrackerSettings
from syncvis.online.memory import SimilarityGuided
from syncvis.outputs import LayerOutput, VideoTracks
from syncvis.structures import ClipBatch, ClipTarget, Window


def _model(modules: str, changes: dict[str, Any] | None = None) -> CTVIS:
    model = method_model("ctvis", MODULES[modules] | (changes or {}))
    assert isinstance(model, CTVIS)
    return model.eval()


def _tracks(model: CTVIS, batch: ClipBatch) -> VideoTracks:
    stream = model.stream()
    with torch.no_grad():
        stream.step(model.encode(batch.images, batch.valid))
        return stream.finish()


def test_losses_of_identity_are_those_of_the_last_matches() -> None:
    """Not the points, but which query shows which instance after the last layer decides."""
    model, batch = _model("none", {"method.contrast_weight": 0.5, "method.cosine_weight": 7}), random_batch(4, (3, 2))
    features = model.encode(batch.images, batch.valid)
    torch.manual_seed(1)
    losses = model.losses(batch)
    torch.manual_seed(1)
    output, supervision = model.decode(features), Supervision(batch.targets, model.criterion.points)
    _, matches = model.criterion.levels(output, supervision, [Window.whole(4)])
    carrier = torch.full((2, 3, 4), -1)
    found = matches["frame"]
    for o, m, q, g in zip(found.output, found.clip, found.query, found.instance, strict=True):
        if o == 3:
            carrier[m // 4, g, m % 4] = q
    assert (carrier >= 0).sum() == sum(int(t.present.sum()) for t in batch.targets)
    identity = model.reid(output.final.levels()[0].embeddings)
    terms = contrast_losses(memory_items(identity, carrier))
    assert {name for name in losses if name.startswith("reid")} == {"reid/layer3/contrast", "reid/layer3/cosine"}
    torch.testing.assert_close(losses["reid/layer3/contrast"], 0.5 * terms["contrast"])
    torch.testing.assert_close(losses["reid/layer3/cosine"], 7 * terms["cosine"])


def _matched(model: CTVIS, target: ClipTarget, masks: Tensor) -> Matches:
    """masks (1, T, Q, h, w) logits that frame queries predict."""
    level = level_output("frame", torch.zeros(1, *masks.shape[1:3], 4), masks)
    output = IdentifiedOutput((LayerOutput(frame=level),), torch.zeros(0))
    supervision = Supervision([target], RandomPoints(4096, 3, 0.75))
    return model.criterion.levels(output, supervision, [Window.whole(masks.shape[1])])[1]["frame"]


def test_padding_changes_no_contrast() -> None:
    """Targets of the criterion are padded as the predictions are; the published second matching was not."""
    model = _model("none")
    found, wanted = torch.full((1, 3, 6, 8, 8), -9.0), torch.zeros(2, 3, 32, 32, dtype=torch.bool)
    for t in range(3):
        for g, query in enumerate((t, 5 - t)):
            top, left = 12 * g + 4, 8 * t
            wanted[g, t, top : top + 12, left : left + 12] = True
            found[0, t, query, top // 4 : top // 4 + 3, left // 4 : left // 4 + 3] = 9
    identity = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    values = []
    for pixels in (0, 32):
        target = ClipTarget(torch.tensor([1, 1]), torch.arange(2), F.pad(wanted, (0, pixels, 0, pixels)))
        matches = _matched(model, target, F.pad(found, (0, pixels // 4, 0, pixels // 4), value=-9.0))
        assert sorted(zip(matches.clip.tolist(), matches.query.tolist(), strict=True)) == [
            (t, q) for t in range(3) for q in sorted((t, 5 - t))
        ]
        output = IdentifiedOutput((LayerOutput(),), identity)
        every = torch.ones(1, 2, 3, dtype=torch.bool)
        values.append(model.contrast(output, matches, (1, 2), every))
    assert all(torch.equal(value, values[1][name]) for name, value in values[0].items())


def test_half_of_the_steps_see_a_prefix() -> None:
    lengths = Counter(prefix_length(6, step / 4000, seed=1) for step in range(4000))
    assert set(lengths) == {2, 3, 4, 5, 6}
    assert abs(lengths[6] - 2000 - 400) < 150
    assert all(abs(lengths[n] - 400) < 80 for n in range(2, 6))
    assert {prefix_length(n, step / 100, seed=1) for step in range(100) for n in (1, 2)} == {1, 2}
    again = [[prefix_length(6, step / 100, seed) for step in range(100)] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_a_cut_clip_has_the_losses_of_its_first_frames() -> None:
    """The last instance appears in the last frame only, which the prefix does not show."""
    model, batch = _model("+both", {"seed": 5}), random_batch(5, (3,))
    late = batch.targets[0].masks.clone()
    late[2, :4] = False
    batch = replace(batch, targets=(replace(batch.targets[0], masks=late),))
    progress = next(p / 100 for p in range(100) if prefix_length(5, p / 100, 5) == 3)
    short = batch.first(3)
    assert [len(t.labels) for t in short.targets] == [2]
    torch.manual_seed(0)
    cut = model.losses(batch, progress=progress)
    torch.manual_seed(0)
    assert {k: v.item() for k, v in cut.items()} == {k: v.item() for k, v in model.losses(short).items()}
    assert any(name.startswith("subclip1-2") for name in cut)
    assert not any(name.startswith("subclip2-3") for name in cut)


def test_clips_stay_whole_where_nothing_is_trained_and_where_causal_is_off() -> None:
    batch = random_batch(5, (3,))
    seed = next(n for n in range(100) if prefix_length(5, 1.0, n) == prefix_length(5, 0.5, n) == 3)
    model, off = _model("+both", {"seed": seed}), _model("+both", {"seed": seed, "method.causal": "off"})
    for losses, whole in ((model.losses(batch), True), (model.losses(batch, progress=0.5), False)):
        assert any(name.startswith("subclip3-4") for name in losses) == whole
    assert any(name.startswith("subclip3-4") for name in off.losses(batch, progress=0.5))


def test_compat_leaves_out_what_the_published_code_does() -> None:
    """One instance, new in frame 1 and missing in frame 2 only: its first item has no counterpart there."""
    values = []
    for compat in (False, True):
        model = _model("none", {"method.compat": compat})
        identity = torch.randn(1, 4, 3, 8, generator=torch.Generator().manual_seed(0))
        clip, query = torch.tensor([1, 3]), torch.tensor([2, 0])
        matches = Matches(
            torch.zeros(2, dtype=torch.int64), clip, torch.zeros_like(clip), query, torch.zeros_like(clip)
        )
        output = IdentifiedOutput((LayerOutput(),), identity)
        values.append(model.contrast(output, matches, (1, 1), torch.zeros(1, 1, 4, dtype=torch.bool)))
        carrier = torch.tensor([[[-1, 2, -1, 0]]])
        items = memory_items(identity, carrier, torch.zeros(1, 1, 4, dtype=torch.bool))
        kept = slice(1, None) if compat else slice(None)
        parts = (x[kept] for x in (items.anchors, items.samples, items.positive, items.negative))
        torch.testing.assert_close(
            values[-1]["reid/layer0/cosine"], 3 * contrast_losses(ContrastItems(*parts))["cosine"]
        )
    assert not torch.equal(values[0]["reid/layer0/cosine"], values[1]["reid/layer0/cosine"])


def test_with_sub_clips_alone_the_video_queries_do_nothing_at_test_time() -> None:
    model, batch = _model("+SEO"), random_batch(4)
    before = _tracks(model, batch)
    with torch.no_grad():
        for parameter in model.decoder.query_sets["video"].parameters():
            parameter.fill_(torch.nan)
    after = _tracks(model, batch)
    assert torch.equal(before.scores, after.scores)
    assert torch.equal(before.mask_embeddings, after.mask_embeddings)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_with_an_exchange_a_frame_sees_the_window_before_it(window: int) -> None:
    """A change of frame 1 reaches the frames in whose window it lies, and no earlier one."""
    model = _model("+both", {"method.window": window, "method.tracker.overlap": 1.0, "method.tracker.match": 1.0})
    batch = random_batch(5)
    other = batch.images.clone()
    other[:, 1] = other[:, 1].flip(-1)
    codes = []
    for images in (batch.images, other):
        frames = model.stream()._frames  # type: ignore[attr-defined]
        with torch.no_grad():
            codes.append(frames(model.encode(images, batch.valid)).class_logits[0])
    changed = [not torch.equal(x, y) for x, y in zip(*codes, strict=True)]
    assert changed == [1 <= t < 1 + window for t in range(5)]


def test_detections_that_stand_still_are_tracks_of_all_frames() -> None:
    model = _model("none", {"method.tracker.overlap": 1.0})
    model.reid = torch.nn.Linear(32, 32, bias=False)
    with torch.no_grad():
        model.reid.weight.copy_(3 * torch.eye(32))
    one = random_batch(1)
    still = replace(one, images=one.images.expand(-1, 12, -1, -1, -1), valid=one.valid.expand(-1, 12, -1, -1))
    tracks = _tracks(model, still)
    assert tracks.seen.shape == (12, 5)
    assert tracks.seen.all()
    assert all((tracks.mask_embeddings[t] == tracks.mask_embeddings[0]).all() for t in range(12))


def test_thresholds_of_the_config_reach_the_tracker() -> None:
    batch = random_batch(4)
    assert _tracks(_model("none"), batch).seen.shape[1] > 0
    for changes in ({"open_first": 1.0, "open": 1.0}, {"open_first": 1.0}):
        model = _model("none", {f"method.tracker.{key}": value for key, value in changes.items()})
        assert _tracks(model, batch).seen.shape == (4, 0)
    alone = _model("none", {"method.tracker.overlap": 0.0, "method.tracker.detect": 1.0})
    assert _tracks(alone, batch).seen.sum(1).tolist() == [1] * 4


def test_every_setting_of_the_tracker_has_its_place() -> None:
    config = TrackerConfig(
        match=0.11, open_first=0.12, open=0.13, patience=14, cache=15, settled=16, short=17, missed=18
    )
    tracker = build_tracker(config)
    assert tracker.settings == TrackerSettings(
        match=0.11, open_first=0.12, open=0.13, patience=14, settled=16, short=17, missed=18
    )
    assert tracker.memory() == SimilarityGuided(cache=15)


def test_the_head_starts_as_published() -> None:
    """detectron2's c2_xavier_fill: uniform up to the root of 3 / C, biases zero."""
    torch.manual_seed(0)
    head = identity_head(64)
    for layer in (head[0], head[2], head[4]):
        assert isinstance(layer, torch.nn.Linear)
        assert float(layer.weight.detach().abs().max()) == pytest.approx((3 / 64) ** 0.5, rel=1e-2)
        assert not layer.bias.any()


def test_the_output_holds_the_embeddings_of_identity() -> None:
    model, batch = _model("+both"), random_batch(3, (1, 1))
    output = model.decode(model.encode(batch.images, batch.valid))
    assert output.identity.shape == (2, 3, 5, 32)
    assert torch.equal(output.identity, model.reid(output.final.both()[0].embeddings))
    assert tiny_config({"method": {"name": "ctvis"}}).method.name == "ctvis"
