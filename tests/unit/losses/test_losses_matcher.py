from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from helpers import pair_sums
from torch import Tensor

from syncvis.losses.mask_losses import frames_inside
from syncvis.losses.matcher import hungarian, matching_cost

WEIGHTS = (2.0, 5.0, 3.0)


def _cheapest(cost: Tensor) -> float:
    """Least total of any assignment of the smaller side, (Q, G)."""
    few = cost if len(cost) <= cost.shape[1] else cost.T
    columns = permutations(range(few.shape[1]), len(few))
    return min(sum(float(few[row, column]) for row, column in enumerate(chosen)) for chosen in columns)


@pytest.mark.parametrize("queries", [1, 3, 5])
@pytest.mark.parametrize("instances", [1, 3, 5])
def test_matching_is_the_cheapest(queries: int, instances: int) -> None:
    torch.manual_seed(queries * 10 + instances)
    costs = torch.randn(2, 2, 3, queries, instances)
    present = torch.rand(2, 3, instances) < 0.7
    matches = hungarian(costs, present)
    for output, clip, window in product(range(2), range(2), range(3)):
        here = (matches.output == output) & (matches.clip == clip) & (matches.window == window)
        query, instance = matches.query[here], matches.instance[here]
        possible, cost = present[clip, window].nonzero().flatten(), costs[output, clip, window]
        assert len(query) == len(query.unique()) == min(queries, len(possible))
        assert len(instance.unique()) == len(instance)
        assert set(instance.tolist()) <= set(possible.tolist())
        if len(possible):
            assert float(cost[query, instance].sum()) == pytest.approx(_cheapest(cost[:, possible]), abs=1e-5)


def test_no_instance_no_match() -> None:
    for instances in (0, 2):
        matches = hungarian(torch.zeros(3, 2, 1, 3, instances), torch.zeros(2, 1, instances, dtype=torch.bool))
        fields = (matches.output, matches.clip, matches.window, matches.query, matches.instance)
        assert all(x.shape == (0,) and x.dtype == torch.int64 for x in fields)


def _inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    class_logits, labels = torch.randn(2, 4, 4), torch.tensor([[0, 2, 1], [1, 1, 0]])
    return class_logits, labels, torch.randn(2, 4, 3, 20), (torch.rand(2, 3, 3, 20) < 0.5).float()


def test_cost_by_hand() -> None:
    class_logits, labels, logits, targets = _inputs()
    cost = matching_cost(class_logits[:, None], labels, pair_sums(logits, targets), torch.ones(3, 1), WEIGHTS)
    assert cost.shape == (2, 1, 4, 3)
    for m, q, g in ((0, 0, 0), (1, 3, 2), (0, 2, 1)):
        x, y = logits[m, q].flatten(), targets[m, g].flatten()
        bce = torch.nn.functional.binary_cross_entropy_with_logits(x, y)
        dice = 1 - (2 * (x.sigmoid() * y).sum() + 1) / (x.sigmoid().sum() + y.sum() + 1)
        wanted = 5 * bce + 3 * dice - 2 * class_logits[m, q].softmax(-1)[labels[m, g]]
        torch.testing.assert_close(cost[m, 0, q, g], wanted)


def test_cost_of_a_window_is_the_cost_of_its_frames_alone() -> None:
    class_logits, labels, logits, targets = _inputs()
    windows = [(0, 1, 2), (0, 2), (1,)]
    inside = frames_inside(windows, 3, logits)
    cost = matching_cost(class_logits[:, None], labels, pair_sums(logits, targets), inside, WEIGHTS)
    for w, frames in enumerate(windows):
        sums = pair_sums(logits[:, :, frames], targets[:, :, frames])
        alone = matching_cost(class_logits[:, None], labels, sums, torch.ones(len(frames), 1), WEIGHTS)
        torch.testing.assert_close(cost[:, w], alone[:, 0])


def test_a_diverged_model_is_matched_somehow() -> None:
    """Its loss is not finite and the training loop says so; the assignment must not fail before."""
    cost = torch.tensor([[[[[float("nan"), float("inf")], [1.0, float("-inf")]]]]])
    assert len(hungarian(cost, torch.ones(1, 1, 2, dtype=torch.bool)).query) == 2
