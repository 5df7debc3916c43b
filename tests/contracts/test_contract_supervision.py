"""What trains a method, for every base method: sub-clips are matched by themselves, and only what learns moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from helpers import MODULES, Everywhere, method_changes, method_model, predict, random_batch, tiny_config
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncvis.config import METHODS
from syncvis.losses.criterion import Criterion
from syncvis.losses.matcher import Matches
from syncvis.losses.views import MatchingSample, View
from syncvis.methods.base import Method
from syncvis.methods.masked import MaskedMethod
from syncvis.structures import ClipBatch, Window
from syncvis.training.step import TrainingStep

Call = tuple[View, dict[str, Tensor], Matches]
SEO = [name for name, changes in MODULES.items() if changes["subclips"]]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _at_fixed_points(method: str, changes: dict[str, Any]) -> MaskedMethod[Any]:
    """A model whose losses look at the same points in every mask."""
    model = cast(MaskedMethod[Any], method_model(method, changes))
    points = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    model.criterion = replace(model.criterion, points=Everywhere(points))  # type: ignore[arg-type]
    return model


def _losses(model: Method, batch: ClipBatch) -> dict[str, Tensor]:
    """Losses whose draws are always the same."""
    torch.manual_seed(1)
    return model.losses(batch)


def _whole(name: str, subclip: str) -> str:
    """The loss of the whole clip that a loss of a sub-clip goes with."""
    window, *rest = name.split("/")
    return "/".join([window.removesuffix(subclip).removesuffix("-") or "clip", *rest])


def _of(losses: dict[str, Tensor], subclip: str) -> dict[str, Tensor]:
    found = {name: value for name, value in losses.items() if name.split("/")[0].endswith(subclip)}
    assert {name.split("/")[2] for name in found} == {"class", "mask", "dice"}
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the criterion is asked and answers from here on."""
    found: list[Call] = []
    original: Callable[..., tuple[dict[str, Tensor], Matches]] = Criterion.__call__

    def remembered(self: Criterion, view: View, *assign: Any) -> tuple[dict[str, Tensor], Matches]:
        losses, matches = original(self, view, *assign)
        found.append((view, losses, matches))
        return losses, matches

    monkeypatch.setattr(Criterion, "__call__", remembered)
    return found


def _cost(view: View, output: int, clip: int, window: int) -> Tensor:
    """(Q, G): what the tubes of a window cost, from the frames of that window alone."""
    frames = list(view.windows[window].frames)
    sample, logits = view.sample(output), view.class_logits[output, clip]
    codes = view.mask_embeddings[output, clip].expand(view.features.shape[1], -1, -1)[frames]
    x = torch.einsum("tqc,tpc->qtp", codes, sample.features[clip, frames]).flatten(1)[:, None]
    y = sample.targets[clip, frames].transpose(0, 1).flatten(1)[None]
    bce = F.binary_cross_entropy_with_logits(*torch.broadcast_tensors(x, y), reduction="none").mean(-1)
    p = x.sigmoid()
    dice = 1 - (2 * (p * y).sum(-1) + 1) / (p.sum(-1) + y.sum(-1) + 1)
    labels = view.targets.labels[clip]
    return 5 * bce + 5 * dice - 2 * logits[min(window, len(logits) - 1)].softmax(-1)[:, labels]


@pytest.mark.parametrize("modules", SEO)
def test_every_window_is_matched_by_its_own_tubes(method: str, modules: str, calls: list[Call]) -> None:
    """In every view of tubes each window has the cheapest pairs of its frames, and they are not those of the clip."""
    losses = method_model(method, MODULES[modules]).losses(random_batch(4, (3, 2)))
    tubes = [call for call in calls if call[0].features.shape[1] == 4]
    assert tubes
    for view, terms, matches in tubes:
        assert [window.frames for window in view.windows] == [(0, 1, 2, 3), (0, 1), (1, 2), (2, 3)]
        assert all(losses[name] is value for name, value in terms.items())
        assert len(terms) == len(view.windows) * 3 * len(view.class_logits) // view.branches
        pairs: dict[int, set[tuple[int, ...]]] = {}
        for output, clip, window in torch.cartesian_prod(*map(torch.arange, (len(view.class_logits), 2, 4))).tolist():
            chosen = (matches.output == output) & (matches.clip == clip) & (matches.window == window)
            query, instance = matches.query[chosen], matches.instance[chosen]
            target, frames = view.targets, list(view.windows[window].frames)
            seen = target.present[clip][:, frames].any(1) if window else target.real[clip]
            assert instance.sort().values.tolist() == seen.nonzero().flatten().tolist()
            cost = _cost(view, output, clip, window).detach()
            least = cost[:, seen].numpy()[linear_sum_assignment(cost[:, seen].numpy())].sum()
            assert float(cost[query, instance].sum()) == pytest.approx(float(least), abs=1e-4)
            rows = zip(query.tolist(), instance.tolist(), strict=True)
            pairs.setdefault(window, set()).update((output, clip, *row) for row in rows)
        assert (pairs[1] | pairs[2] | pairs[3]) - pairs[0]


@pytest.mark.parametrize("modules", SEO)
def test_a_sub_clip_of_all_frames_has_the_losses_of_the_clip(method: str, modules: str) -> None:
    model = _at_fixed_points(method, MODULES[modules])
    model.subclips = lambda num_frames: [Window("subclip-all", tuple(range(num_frames)), 0.5)]
    losses = model.losses(random_batch(3, (3, 2)))
    for name, value in _of(losses, "subclip-all").items():
        torch.testing.assert_close(value, 0.5 * losses[_whole(name, "subclip-all")])


@pytest.mark.parametrize("modules", SEO)
def test_a_decoded_window_has_the_losses_of_its_frames_as_a_clip(method: str, modules: str) -> None:
    changes = {"subclips.placement": "decode", "subclips.factor": 0.5}
    model, shared = (_at_fixed_points(method, MODULES[modules] | more) for more in (changes, {}))
    batch = random_batch(4, (3, 2))
    cut = ClipBatch(batch.images[:, 1:3], batch.valid[:, 1:3], tuple(t.window((1, 2)) for t in batch.targets))
    losses, alone, once = _losses(model, batch), _losses(model, cut), _losses(shared, batch)
    assert losses.keys() == once.keys()
    for name, value in once.items():
        if "subclip" not in name:
            torch.testing.assert_close(losses[name], value)
    for name, value in _of(losses, "subclip1-2").items():
        torch.testing.assert_close(value, 0.5 * alone[_whole(name, "subclip1-2")])


def _step(method: str, changes: dict[str, Any], passes: list[ClipBatch]) -> tuple[Method, dict[str, Tensor]]:
    """A model after a step, and its state before."""
    changes = MODULES["+both"] | changes | {"train.accumulate": len(passes), "train.warmup": 0}
    model = _at_fixed_points(method, changes)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    config = tiny_config(method_changes(method) | changes)
    TrainingStep(model, config, torch.device("cpu"))(0, passes)
    return model, before


def test_accumulated_steps_move_the_part_that_learns_and_no_other(method: str) -> None:
    whole = method_model(method, MODULES["+both"])
    children = list(dict.fromkeys(name.split(".")[0] for name, _ in whole.named_parameters()))
    for child in children:
        passes = [random_batch(3, (2, 1), seed) for seed in (0, 1)]
        model, before = _step(method, {"train.trained": [child]}, passes)
        assert {n.split(".")[0] for n, x in model.state_dict().items() if not torch.equal(x, before[n])} == {child}
        assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None} == {child}
        assert [n for n, part in model.named_children() if part.training and list(part.parameters())] == [child]


def test_a_pass_leaves_nothing_for_the_next(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes on one batch, with the same draws, have the gradient of one pass on it."""
    monkeypatch.setattr("syncvis.training.step.seed_step", lambda *_: torch.manual_seed(1))
    batch = random_batch(3, (2, 1))
    once, twice = (dict(_step(method, {}, [batch] * passes)[0].named_parameters()) for passes in (1, 2))
    for name, parameter in once.items():
        torch.testing.assert_close(twice[name].grad, parameter.grad, msg=lambda text, n=name: f"{n}: {text}")


def test_what_matching_looks_at_is_sampled_once_for_each_map(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both levels read the same mask features at the same points; only a map of its own is sampled again (VITA)."""
    model, batch = method_model(method, MODULES["+both"]), random_batch(3, (2, 1))
    maps = {id(level.mask_features) for level in predict(model, batch).named().values()}
    calls: list[Tensor] = []
    original = MatchingSample.of

    def counted(features: Tensor, *rest: Any) -> MatchingSample:
        calls.append(features)
        return original(features, *rest)

    monkeypatch.setattr(MatchingSample, "of", counted)
    model.losses(batch)
    assert len(calls) == len(maps)
