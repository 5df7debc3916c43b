"""The cheapest assignment of rows to columns (scipy's solver), on tensors of any device, also on fake ones."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake


def linear_assignment(cost: Tensor, maximize: bool = False) -> tuple[Tensor, Tensor]:
    """Give each row a column of its own, or each column a row where there are fewer of them, at the least cost.

    Args:
        cost: (N, M). Of a diverged model it is not finite; the assignment is then any one. Fake tensors and those of
            the meta device have no numbers: the i-th row gets the i-th column.
        maximize: at the greatest cost instead.

    Returns:
        Rows in ascending order and their columns, int64 (min(N, M),) each, on the device of ``cost``. No gradient
        flows.
    """
    if cost.is_meta or is_fake(cost):
        rows = torch.arange(min(cost.shape), device=cost.device)
        return rows, rows.clone()
    found = linear_sum_assignment(cost.detach().nan_to_num().cpu().double().numpy(), maximize)
    rows, columns = (torch.from_numpy(indices).to(cost.device) for indices in found)
    return rows, columns
