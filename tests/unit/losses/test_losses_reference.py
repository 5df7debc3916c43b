"""The whole criterion against loops over layers, branches, clips, windows, pairs and frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import Everywhere, random_batch, tiny_config
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncvis.losses.criterion import Criterion
from syncvis.losses.mask_losses import REDUCTIONS, joint
from syncvis.losses.points import RandomPoints
from syncvis.losses.views import Supervision, View
from syncvis.methods.assemble import build_criterion
from syncvis.outputs import LevelOutput
from syncvis.structures import ClipTarget, Level, Window

WEIGHTS = {"class": 2.0, "mask": 7.0, "dice": 3.0}
CHANGES = {"criterion.class_weight": 2, "criterion.mask_weight": 7, "criterion.dice_weight": 3}
CLIPS, FRAMES, QUERIES, CLASSES, CHANNELS = 3, 5, 6, 3, 9
WINDOWS = [Window.whole(FRAMES), Window("late", (1, 2, 3, 4), 0.5), Window("ends", (0, 4)), Window("one", (2,), 2.0)]
POINTS = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))


def test_the_criterion_of_a_config() -> None:
    changes = CHANGES | {
        "criterion.no_object_weight": 0.2,
        "criterion.frame_factor": 0.4,
        "criterion.points": 9,
        "criterion.oversample": 5,
        "criterion.importance": 0.6,
        "criterion.tube_reduction": "joint",
    }
    for subclips, ignore_absent in (({"subclips": None}, True), ({}, True), ({"subclips.absent": "no_object"}, False)):
        found = build_criterion(tiny_config(changes | subclips))
        assert found == Criterion(2, 7, 3, 0.2, 0.4, RandomPoints(9, 5, 0.6), joint, ignore_absent)


def _targets() -> tuple[ClipTarget, ...]:
    """Three, no and seven instances; instance 0 is seen in the first frame only, 2 nowhere but in the third."""
    targets = list(random_batch(FRAMES, (3, 0, 7), seed=3).targets)
    targets[0].masks[2, [0, 1, 3, 4]] = False
    targets[2].masks[2, [0, 1, 3, 4]] = False
    targets[2].masks[4] = False  # of the clip, but without a pixel: it counts on the whole clip alone
    return tuple(targets)


def _outputs(
    level: Level, number: int, windows: tuple[int, ...] = (), frames: tuple[int, ...] = ()
) -> list[LevelOutput]:
    """Random predictions: class logits (M, windows, Q, K+1), mask embeddings (M, frames, Q, C)."""
    torch.manual_seed(1)
    features, none = torch.randn(CLIPS, FRAMES, CHANNELS, 8, 16), torch.zeros(0)
    found = []
    for _ in range(number):
        logits = torch.randn(CLIPS, *windows, QUERIES, CLASSES + 1)
        found.append(LevelOutput(level, none, logits, torch.randn(CLIPS, *frames, QUERIES, CHANNELS), features, None))
    return found


def _at_points(maps: Tensor) -> Tensor:
    """(A, T, H, W) -> (A, T, P)."""
    grid = (2 * POINTS - 1).expand(maps.shape[0], 1, -1, -1)
    return F.grid_sample(maps.float(), grid, align_corners=False)[:, :, 0]


def _bce(x: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(x, y)


def _dice(x: Tensor, y: Tensor) -> Tensor:
    p = x.sigmoid()
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


class _Clip:
    """One output on one clip: logits of its window (Q, K+1), tubes (Q, T, P), labels (G,), wanted tubes (G, T, P)."""

    def __init__(self, view: View, output: int, clip: int, target: ClipTarget) -> None:
        self.logits = view.class_logits[output, clip]
        codes = view.mask_embeddings[output, clip].expand(view.features.shape[1], -1, -1)
        self.tubes = _at_points(torch.einsum("tqc,tchw->qthw", codes, view.features[clip]))
        self.target, self.wanted = target, _at_points(target.masks)

    def in_window(self, window: int) -> Tensor:
        return self.logits[min(window, len(self.logits) - 1)]

    def instances(self, window: int, frames: tuple[int, ...]) -> list[int]:
        """All that belong to the clip, or those that a frame of the window shows."""
        masks = self.target.masks
        return [g for g in range(len(masks)) if window == 0 or masks[g, list(frames)].any()]

    def pairs(self, window: int, frames: tuple[int, ...]) -> dict[int, int]:
        """Query -> instance."""
        instances, probability = self.instances(window, frames), self.in_window(window).softmax(-1)
        cost = torch.zeros(len(self.tubes), len(instances))
        for q in range(len(cost)):
            for column, g in enumerate(instances):
                x, y = self.tubes[q, list(frames)], self.wanted[g, list(frames)]
                known = probability[q, self.target.labels[g]]
                cost[q, column] = 7 * _bce(x, y) + 3 * _dice(x, y) - 2 * known
        found = zip(*linear_sum_assignment(cost.numpy()), strict=True)
        return {int(q): instances[column] for q, column in found}


def _expected(
    view: View, targets: list[ClipTarget], reduction: str, ignore_absent: bool
) -> Iterator[tuple[str, Tensor]]:
    for output in range(len(view.class_logits)):
        clips = [_Clip(view, output, m, target) for m, target in enumerate(targets)]
        for w, window in enumerate(view.windows):
            entropy, weight, bce, dice, count = torch.zeros(()), 0.0, torch.zeros(()), torch.zeros(()), 0
            for clip in clips:
                pairs, whole = clip.pairs(w, window.frames), clip.pairs(0, view.windows[0].frames)
                instances = clip.instances(w, window.frames)
                count += len(instances)
                for q, logits in enumerate(clip.in_window(w)):
                    if q not in pairs and q in whole and ignore_absent and whole[q] not in instances:
                        continue
                    label = int(clip.target.labels[pairs[q]]) if q in pairs else CLASSES
                    share = 1.0 if q in pairs else 0.1
                    entropy, weight = entropy - share * logits.log_softmax(-1)[label], weight + share
                for q, g in pairs.items():
                    x, y = clip.tubes[q, list(window.frames)], clip.wanted[g, list(window.frames)]
                    tubes = [(x, y)] if reduction == "joint" else list(zip(x, y, strict=True))
                    bce = bce + sum(_bce(*tube) for tube in tubes)
                    dice = dice + sum(_dice(*tube) for tube in tubes)
            terms = {"class": entropy / weight, "mask": bce / max(count, 1), "dice": dice / max(count, 1)}
            for term, value in terms.items():
                yield f"{window.name}/{output}/{term}", window.weight * WEIGHTS[term] * value


def _check(criterion: Criterion, view: View, targets: list[ClipTarget], reduction: str) -> None:
    found, _ = criterion(view)
    single = dict(_expected(view, targets, reduction, criterion.ignore_absent))
    layers = len(view.class_logits) // view.branches
    assert len(found) == len(view.windows) * layers * 3
    for name, value in found.items():
        window, layer, term = name.split("/")
        first = int(layer.removeprefix("layer")) * view.branches
        branches = [single[f"{window}/{first + branch}/{term}"] for branch in range(view.branches)]
        torch.testing.assert_close(value, torch.stack(branches).mean(), msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize(("windows", "frames"), [((), ()), ((len(WINDOWS),), (FRAMES,))], ids=["shared", "own"])
@pytest.mark.parametrize("ignore_absent", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("branches", [1, 2])
def test_tubes(
    branches: int, reduction: str, ignore_absent: bool, windows: tuple[int, ...], frames: tuple[int, ...]
) -> None:
    """Class logits of the clip or of each window's own, mask embeddings of the clip or of each frame's own."""
    criterion = build_criterion(tiny_config(CHANGES | {"criterion.tube_reduction": reduction}))
    outputs = _outputs("video", 2 * branches, windows, frames)
    view = Supervision(_targets(), Everywhere(POINTS)).of_clips(outputs, WINDOWS, branches=branches)
    _check(replace(criterion, ignore_absent=ignore_absent), view, list(_targets()), reduction)


def test_frames() -> None:
    """A frame is a clip of its own, with the instances that it shows."""
    criterion, targets = build_criterion(tiny_config(CHANGES)), _targets()
    view = Supervision(targets, Everywhere(POINTS)).of_frames(_outputs("frame", 3, (FRAMES,), (FRAMES,)), 0.25)
    assert [(w.name, w.weight) for w in view.windows] == [("frame", 0.25)]
    frames = [target.window((t,)) for target in targets for t in range(FRAMES)]
    shown = [ClipTarget(*(x[f.present[:, 0]] for x in (f.labels, f.ids, f.masks))) for f in frames]
    _check(criterion, view, shown, "per_frame_sum")


def test_a_single_instance_in_the_batch() -> None:
    """It is seen in the first frame only: a window has one instance to divide by, or none."""
    targets = random_batch(FRAMES, (1, 0, 0)).targets
    view = Supervision(targets, Everywhere(POINTS)).of_clips(_outputs("video", 2), WINDOWS)
    _check(build_criterion(tiny_config(CHANGES)), view, list(targets), "per_frame_sum")
