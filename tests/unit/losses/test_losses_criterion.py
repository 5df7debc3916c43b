"""The criterion from outside: class targets read off its gradient, mask losses against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import Everywhere, criterion_losses, level_output, random_batch, single_output, tiny_config
from torch import Tensor

from syncvis.config import DataConfig
from syncvis.data.loader import TrainClips
from syncvis.data.ytvis import VideoDataset
from syncvis.losses.criterion import Criterion
from syncvis.losses.mask_losses import REDUCTIONS
from syncvis.losses.points import GivenPoints
from syncvis.losses.views import Supervision, View
from syncvis.methods.assemble import build_criterion
from syncvis.outputs import ClipOutput, LayerOutput, LevelOutput
from syncvis.structures import ClipTarget, Window

IGNORED = -1
CRITERION = build_criterion(tiny_config({"criterion.points": 64}))
CLASSES, NO_OBJECT = 6, 6


def _boxes(*rows: tuple[int, int, list[int]]) -> ClipTarget:
    """Instances (label, left edge of a box of 8 columns, frames where it is seen) in 3 frames of 16 x 48."""
    masks = torch.zeros(len(rows), 3, 16, 48, dtype=torch.bool)
    for g, (_, left, frames) in enumerate(rows):
        masks[g, frames, 4:12, left : left + 8] = True
    return ClipTarget(torch.tensor([label for label, _, _ in rows], dtype=torch.int64), torch.arange(len(rows)), masks)


def _good_masks(target: ClipTarget, queries: list[int | None]) -> Tensor:
    """(1, Q, T, H, W): the mask of the instance that each query is to find, or nothing."""
    nothing = torch.zeros_like(target.masks[0])
    found = torch.stack([nothing if g is None else target.masks[g] for g in queries])
    return (found.float() * 8 - 4)[None]


def _class_targets(criterion: Criterion, output: LevelOutput, target: ClipTarget, window: Window) -> list[int]:
    """Wanted class of each query of a clip in a window: softmax minus target is negative at the target alone."""
    logits = output.class_logits.detach().requires_grad_()
    windows = [Window.whole(target.masks.shape[1]), window]
    losses = criterion_losses(criterion, single_output(replace(output, class_logits=logits)), [target], windows)
    (gradient,) = torch.autograd.grad(losses[f"{window.name}/layer0/class"], logits)
    lowest = gradient[0].min(-1)
    return [int(i) if value < 0 else IGNORED for value, i in zip(*lowest, strict=True)]


def _video(target: ClipTarget, queries: list[int | None]) -> LevelOutput:
    torch.manual_seed(0)
    return level_output("video", torch.randn(1, len(queries), CLASSES + 1), _good_masks(target, queries))


def test_an_instance_of_the_first_frame_keeps_its_class() -> None:
    """On the clip its query has its label; in a sub-clip without it the query is ignored, or is to say no object."""
    target = _boxes((4, 0, [0]), (2, 20, [0, 1, 2]))
    output = _video(target, [None, 1, None, 0])
    whole, late = Window("again", (0, 1, 2)), Window("late", (1, 2))
    teaching = replace(CRITERION, ignore_absent=False)
    for criterion in (CRITERION, teaching):
        assert _class_targets(criterion, output, target, whole) == [NO_OBJECT, 2, NO_OBJECT, 4]
    assert _class_targets(CRITERION, output, target, late) == [NO_OBJECT, 2, NO_OBJECT, IGNORED]
    assert _class_targets(teaching, output, target, late) == [NO_OBJECT, 2, NO_OBJECT, NO_OBJECT]


def test_a_query_that_takes_another_instance_in_a_sub_clip_has_its_class() -> None:
    """Query 0 finds instance 0 in the clip; in the last frame, without that one, it is the best for instance 1."""
    target = _boxes((4, 0, [0, 1]), (2, 20, [0, 1, 2]))
    masks = _good_masks(target, [0, 1])
    masks[:, 0, 2], masks[:, 1, 2] = masks[:, 1, 2].clone(), -4
    output = level_output("video", torch.zeros(1, 2, CLASSES + 1), masks)
    assert _class_targets(CRITERION, output, target, Window("again", (0, 1, 2))) == [4, 2]
    assert _class_targets(CRITERION, output, target, Window("late", (2,))) == [2, NO_OBJECT]


def test_only_the_match_on_the_whole_clip_is_left_out_of_a_sub_clip() -> None:
    """Query 2 is free on the clip, but the best for instance 0 where that is seen alone; elsewhere it finds nothing."""
    target = _boxes((4, 0, [0]), (2, 20, [1, 2]))
    masks = _good_masks(target, [0, 1, None])
    masks[:, 2, 0], masks[:, 0, 0] = 9.0 * (2 * target.masks[0, 0].float() - 1), masks[:, 0, 0] / 4
    masks[:, 2, 1:] = 4
    output = level_output("video", torch.zeros(1, 3, CLASSES + 1), masks)
    windows = [Window.whole(3), Window("early", (0,)), Window("late", (1, 2))]
    view = Supervision([target], CRITERION.points).of_clips([output], windows)
    _, matches = CRITERION(view)
    pairs = torch.stack([matches.window, matches.query, matches.instance], 1).tolist()
    assert pairs == [[0, 0, 0], [0, 1, 1], [1, 2, 0], [2, 1, 1]]
    logits = output.class_logits.clone().requires_grad_()
    losses = criterion_losses(CRITERION, single_output(replace(output, class_logits=logits)), [target], windows)
    (gradient,) = torch.autograd.grad(losses["late/layer0/class"], logits)
    lowest = gradient[0].min(-1)
    found = [int(i) if value < 0 else IGNORED for value, i in zip(*lowest, strict=True)]
    assert found == [IGNORED, 2, NO_OBJECT]


def test_logits_and_mask_embeddings_may_differ_by_window_and_frame() -> None:
    """Copies of the shared ones change nothing; with others, each window and frame is compared with its own."""
    batch = random_batch(3, (3, 2))
    torch.manual_seed(0)
    output = level_output("video", torch.randn(2, 4, 4), torch.randn(2, 4, 3, 8, 16))
    windows = [Window.whole(3), Window("late", (1, 2))]
    points = GivenPoints([torch.rand(2, 64, 2)], [torch.rand(30, 64, 2)])
    view = Supervision(batch.targets, points).of_clips([output], windows)
    view = replace(view, points=CRITERION.points)

    def losses(view: View) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return CRITERION(view)[0]

    shared = losses(view)
    logits, codes = view.class_logits.expand(-1, -1, 2, -1, -1), view.mask_embeddings.expand(-1, -1, 3, -1, -1)
    for name, value in losses(replace(view, class_logits=logits, mask_embeddings=codes)).items():
        torch.testing.assert_close(value, shared[name], rtol=1e-6, atol=1e-6)
    other = logits.clone()
    other[:, :, 1] = 0
    changed = losses(replace(view, class_logits=other))
    assert torch.equal(changed["clip/layer0/class"], shared["clip/layer0/class"])
    assert not torch.equal(changed["late/layer0/class"], shared["late/layer0/class"])
    dark = codes.clone()
    dark[:, :, 0] = 0
    changed = losses(replace(view, mask_embeddings=dark))
    assert not torch.equal(changed["clip/layer0/mask"], shared["clip/layer0/mask"])


def test_branches_of_a_layer_are_averaged() -> None:
    batch = random_batch(3, (3, 2))
    torch.manual_seed(0)
    outputs = [level_output("video", torch.randn(2, 4, 4), torch.randn(2, 4, 3, 8, 16)) for _ in range(4)]
    outputs = [replace(o, mask_features=outputs[0].mask_features) for o in outputs]
    windows = [Window.whole(3), Window("late", (1, 2))]
    points = Everywhere(torch.rand(64, 2, generator=torch.Generator().manual_seed(0)))
    supervision = Supervision(batch.targets, points)
    single = CRITERION(supervision.of_clips(outputs, windows))[0]
    joined = CRITERION(supervision.of_clips(outputs, windows, "temporal", branches=2))[0]
    assert {name.split("/")[0] for name in joined} == {"temporal", "temporal-late"}
    for name, value in joined.items():
        window, layer, term = name.replace("temporal-", "").replace("temporal", "clip").split("/")
        mean = sum(single[f"{window}/layer{2 * int(layer[-1]) + branch}/{term}"] for branch in (0, 1)) / 2
        torch.testing.assert_close(value, mean)


def test_given_points_of_each_view_are_used() -> None:
    """By the name of the view; views with one source share its matching points, drawn once."""
    batch = random_batch(2, (2,))
    masks = torch.randn(1, 4, 2, 8, 16, generator=torch.Generator().manual_seed(0))
    layer = LayerOutput(
        level_output("frame", torch.zeros(1, 2, 4, 4), masks.transpose(1, 2)),
        level_output("video", torch.zeros(1, 4, 4), masks),
    )
    corner, whole = Everywhere(torch.zeros(64, 2)), Everywhere(torch.rand(64, 2))
    both = criterion_losses(CRITERION, ClipOutput((layer,)), batch.targets, [Window.whole(2)], whole)
    named = criterion_losses(
        CRITERION, ClipOutput((layer,)), batch.targets, [Window.whole(2)], {"frame": corner, "clip": whole}
    )
    for name, value in named.items():
        same = bool(torch.isclose(value, both[name], rtol=1e-5))
        assert same == (not name.startswith("frame") or name.endswith("class"))


def test_views_with_one_source_share_its_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    monkeypatch.setattr(Everywhere, "matching", lambda self, clips, _: draws.append(clips) or [torch.rand(clips, 9, 2)])  # type: ignore[func-returns-value]
    masks = torch.zeros(1, 4, 2, 8, 16)
    frame = level_output("frame", torch.zeros(1, 2, 4, 4), masks.transpose(1, 2))
    video = level_output("video", torch.zeros(1, 4, 4), masks)
    one, other = (Everywhere(torch.zeros(9, 2)) for _ in range(2))
    for points, wanted in ((one, [1]), ({"frame": one, "clip": one}, [1]), ({"frame": one, "clip": other}, [1, 1])):
        draws.clear()
        supervision = Supervision(random_batch(2).targets, points)
        supervision.of_frames([frame], 1)
        supervision.of_clips([video], [Window.whole(2)])
        assert draws == wanted


def test_padding_of_32_pixels_changes_no_match_and_no_loss() -> None:
    """Given predictions, and points at the same places of the images: whatever the padding holds is not read."""
    batch = random_batch(3, (3, 2))  # 32 x 64 pixels, of which a cell has 4 x 4
    torch.manual_seed(0)
    layer = LayerOutput(
        level_output("frame", torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 8, 16)),
        level_output("video", torch.randn(2, 4, 4), torch.randn(2, 4, 3, 8, 16)),
    )
    size = torch.tensor([64, 32])
    points = (2 + (size - 4) * torch.rand(64, 2)) / size  # half a cell away from the edges
    padded = LayerOutput(*(replace(o, mask_features=_padded(o.mask_features, 8)) for o in layer.both()))
    targets = [replace(t, masks=F.pad(t.masks, (0, 32, 0, 32))) for t in batch.targets]
    windows = [Window.whole(3), Window("early", (0, 1)), Window("late", (1, 2))]
    wanted, pairs = CRITERION.levels(ClipOutput((layer,)), Supervision(batch.targets, Everywhere(points)), windows)
    scaled = Everywhere(points * size / (size + 32))
    found, padded_pairs = CRITERION.levels(ClipOutput((padded,)), Supervision(targets, scaled), windows)
    for level, matches in pairs.items():
        assert all(torch.equal(vars(padded_pairs[level])[name], x) for name, x in vars(matches).items())
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-5)


def _padded(features: Tensor, cells: int) -> Tensor:
    """With some cells at the right and at the bottom that hold anything."""
    height, width = features.shape[-2:]
    larger = 9 * torch.randn(*features.shape[:-2], height + cells, width + cells)
    larger[..., :height, :width] = features
    return larger


def test_from_the_data_set_to_the_class_target(tiny_data: Path) -> None:
    """A track annotated in its first frame only comes through the loader with its label."""
    dataset = VideoDataset.load(tiny_data, "train.json")
    video = max(dataset.videos, key=lambda v: len(v.tracks))
    track = max(video.tracks, key=lambda k: int(k.mask(0).sum()))
    once = replace(track, segmentations=(track.segmentations[0], None, None, None))
    dataset = replace(dataset, videos=(replace(video, tracks=(once,)),))
    config = DataConfig(root=str(tiny_data), frames=4, short_side=(32,), flip=0)
    (target,) = TrainClips(dataset, config, batch_size=1, seed=0).batch(0).targets
    assert target.present.tolist() == [[True, False, False, False]]
    output = _video(target, [None, 0, None])
    assert _class_targets(CRITERION, output, target, Window("clip2", (0, 1, 2, 3))) == [
        NO_OBJECT,
        track.label,
        NO_OBJECT,
    ]
    assert _class_targets(CRITERION, output, target, Window("late", (2, 3))) == [NO_OBJECT, IGNORED, NO_OBJECT]


def test_frame_queries_learn_what_is_in_their_frame() -> None:
    target = _boxes((4, 0, [0]), (2, 20, [0, 1, 2]))
    masks = _good_masks(target, [1, 0]).transpose(1, 2)  # (1, T, Q, H, W)
    logits = torch.zeros(1, 3, 2, CLASSES + 1, requires_grad=True)
    losses = criterion_losses(
        CRITERION, single_output(level_output("frame", logits, masks)), [target], [Window.whole(3)]
    )
    assert set(losses) == {"frame/layer0/class", "frame/layer0/mask", "frame/layer0/dice"}
    (gradient,) = torch.autograd.grad(losses["frame/layer0/class"], logits)
    assert gradient[0].argmin(-1).tolist() == [[2, 4], [2, NO_OBJECT], [2, NO_OBJECT]]


def test_class_loss_is_weighted_cross_entropy() -> None:
    targets = [_boxes((4, 0, [0]), (2, 20, [0, 1, 2])), _boxes((1, 30, [1]))]
    masks = torch.cat([_good_masks(targets[0], [None, 1, None, 0]), _good_masks(targets[1], [0, None, None, None])])
    torch.manual_seed(1)
    logits = torch.randn(2, 4, CLASSES + 1)
    windows = [Window.whole(3), Window("late", (1, 2), weight=0.25)]
    losses = criterion_losses(CRITERION, single_output(level_output("video", logits, masks)), targets, windows)
    weight = torch.ones(CLASSES + 1)
    weight[NO_OBJECT] = CRITERION.no_object_weight
    wanted = torch.tensor([[NO_OBJECT, 2, NO_OBJECT, 4], [1, NO_OBJECT, NO_OBJECT, NO_OBJECT]])
    whole = 2 * F.cross_entropy(logits.mT, wanted, weight)
    wanted[0, 3] = -100
    late = 0.25 * 2 * F.cross_entropy(logits.mT, wanted, weight)
    torch.testing.assert_close(losses["clip/layer0/class"], whole)
    torch.testing.assert_close(losses["late/layer0/class"], late)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_mask_losses_against_plain_loops(name: str) -> None:
    """Summed over matched pairs and divided by the instances present, per window; points of each frame its own."""
    points = torch.rand(9, 64, 2, generator=torch.Generator().manual_seed(0))
    target = _boxes((4, 0, [0]), (2, 20, [0, 1, 2]), (3, 38, [2]))
    torch.manual_seed(1)
    good = _good_masks(target, [0, 1, 2])
    masks = good + torch.randn_like(good)
    windows = [Window.whole(3), Window("early", (0, 1), weight=0.5), Window("last", (2,), weight=2)]
    criterion = replace(CRITERION, reduction=REDUCTIONS[name])
    output = level_output("video", torch.zeros(1, 3, CLASSES + 1), masks)
    losses = criterion_losses(
        criterion, single_output(output), [target], windows, GivenPoints([torch.rand(1, 64, 2)], [points])
    )

    def at_points(maps: Tensor) -> Tensor:  # (3, T, H, W) -> (3, T, P)
        return F.grid_sample(maps.flatten(0, 1)[:, None], 2 * points[:, None] - 1, align_corners=False).view(3, 3, -1)

    x, y = at_points(masks[0]), at_points(target.masks.float())
    for window, instances in zip(windows, ([0, 1, 2], [0, 1], [1, 2]), strict=True):
        frames = list(window.frames)
        tubes = [frames] if name == "joint" else [[t] for t in frames]
        bce = sum(F.binary_cross_entropy_with_logits(x[g, t], y[g, t]) for g in instances for t in tubes)
        dice = sum(_dice(x[g, t].sigmoid(), y[g, t]) for g in instances for t in tubes)
        count = len(instances) / window.weight
        torch.testing.assert_close(losses[f"{window.name}/layer0/mask"], 5 * torch.as_tensor(bce) / count)
        torch.testing.assert_close(losses[f"{window.name}/layer0/dice"], 5 * torch.as_tensor(dice) / count)


def _dice(p: Tensor, y: Tensor) -> Tensor:
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


@pytest.mark.parametrize("absent", [True, False])
def test_a_sub_clip_of_all_frames_repeats_the_clip(absent: bool) -> None:
    batch = random_batch(3, (3, 2))
    torch.manual_seed(0)
    output = level_output("video", torch.randn(2, 4, 4), torch.randn(2, 4, 3, 8, 16))
    windows = [Window.whole(3), Window("again", (0, 1, 2))]
    losses = criterion_losses(replace(CRITERION, ignore_absent=absent), single_output(output), batch.targets, windows)
    for term in ("class", "mask", "dice"):
        assert torch.equal(losses[f"again/layer0/{term}"], losses[f"clip/layer0/{term}"])


def test_more_instances_than_queries() -> None:
    target = _boxes((0, 0, [0]), (1, 20, [0, 1, 2]), (2, 38, [2]))
    output = _video(target, [2, 1])
    assert _class_targets(CRITERION, output, target, Window("again", (0, 1, 2))) == [2, 1]


def test_without_instances_everything_is_no_object() -> None:
    target = _boxes()
    logits = torch.randn(1, 2, CLASSES + 1, generator=torch.Generator().manual_seed(0))
    losses = criterion_losses(
        CRITERION,
        single_output(level_output("video", logits, torch.zeros(1, 2, 3, 8, 16))),
        [target],
        [Window.whole(3)],
    )
    wanted = 2 * F.cross_entropy(logits[0], torch.full((2,), NO_OBJECT))
    torch.testing.assert_close(losses["clip/layer0/class"], wanted)
    assert losses["clip/layer0/mask"] == losses["clip/layer0/dice"] == 0


def test_weights_multiply() -> None:
    batch = random_batch(2, (2,))
    torch.manual_seed(0)
    masks = torch.randn(1, 4, 2, 8, 16)
    layer = LayerOutput(
        level_output("frame", torch.randn(1, 2, 4, 4), masks.transpose(1, 2)),
        level_output("video", torch.randn(1, 4, 4), masks),
    )
    output = replace(single_output(level_output("video", torch.zeros(1, 4, 4), masks)), layers=(layer, layer))
    values = []
    for factor in (1.0, 0.25):
        torch.manual_seed(1)
        values.append(
            criterion_losses(replace(CRITERION, frame_factor=factor), output, batch.targets, [Window.whole(2)])
        )
    assert {name.split("/")[1] for name in values[0]} == {"layer0", "layer1"}
    for name, value in values[0].items():
        torch.testing.assert_close(values[1][name], value * (0.25 if name.startswith("frame") else 1))
    assert np.isfinite([float(x) for x in values[0].values()]).all()
