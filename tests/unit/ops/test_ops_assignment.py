"""The cheapest assignment: against all permutations, on odd shapes, and on tensors without numbers."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from syncvis.ops.assignment import linear_assignment


def _best(cost: Tensor, maximize: bool) -> float:
    """Of a matrix with at least as many columns as rows: every injection of rows into columns tried."""
    ways = permutations(range(cost.shape[1]), cost.shape[0])
    sums = [sum(cost[row, column].item() for row, column in enumerate(way)) for way in ways]
    return max(sums) if maximize else min(sums)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_no_other_assignment_is_better(shape: tuple[int, int], maximize: bool, dtype: torch.dtype) -> None:
    cost = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    rows, columns = linear_assignment(cost, maximize)
    assert rows.dtype == columns.dtype == torch.int64
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == len(set(columns.tolist())) == min(shape)
    wide = cost.detach().double()
    found = wide[rows, columns].sum().item()
    assert found == pytest.approx(_best(wide if shape[0] <= shape[1] else wide.T, maximize))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_assign(shape: tuple[int, int]) -> None:
    assert [x.tolist() for x in linear_assignment(torch.zeros(shape))] == [[], []]


def test_a_cost_that_is_not_finite_still_gives_each_row_a_column() -> None:
    cost = torch.tensor([[float("nan"), float("inf")], [float("-inf"), 1.0]])
    rows, columns = linear_assignment(cost)
    assert (rows.tolist(), sorted(columns.tolist())) == ([0, 1], [0, 1])


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2)])
def test_without_numbers_it_is_the_identity(shape: tuple[int, int]) -> None:
    wanted = [list(range(min(shape)))] * 2
    with FakeTensorMode():
        fake = linear_assignment(torch.empty(shape))
        assert [(x.shape, x.dtype) for x in fake] == [(torch.Size([min(shape)]), torch.int64)] * 2
        gathered = torch.empty(shape)[fake]
        assert gathered.shape == (min(shape),)
    meta = linear_assignment(torch.empty(shape, device="meta"))
    assert [(len(x), x.device.type) for x in meta] == [(len(one), "meta") for one in wanted]
