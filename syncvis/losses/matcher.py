"""Bipartite matching of queries and instances, per output, clip and window (Mask2Former-VIS' cost; scipy's solver).

Costs are computed on the device and solved on the host; those of several views are brought there in one copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncvis.losses.mask_losses import FrameSums, joint
from syncvis.transfer import to_host


@dataclass(frozen=True)
class Matches:
    """Matched pairs: int64 vectors of one length, on the host. Output o, clip m, window w, query q, instance g."""

    output: Tensor
    clip: Tensor
    window: Tensor
    query: Tensor
    instance: Tensor

    def of_whole_clips(self, first: int = 0) -> Matches:
        """The pairs of the whole clip, which is the first window, in the outputs from ``first`` on, counted from 0."""
        chosen = (self.window == 0) & (self.output >= first)
        fields = (self.output - first, self.clip, self.window, self.query, self.instance)
        return Matches(*(field[chosen] for field in fields))


def matching_cost(
    class_logits: Tensor, labels: Tensor, sums: FrameSums, inside: Tensor, weights: tuple[float, float, float]
) -> Tensor:
    """Cost of giving instance g to query q in window w.

    Args:
        class_logits: (M, 1|W, Q, K+1).
        labels: (M, G).
        sums: of shape (M, Q, G, T).
        inside: (T, W).
        weights: of class, mask (BCE) and dice.

    Returns:
        (M, W, Q, G).
    """
    index = labels[:, None, None].expand(-1, *class_logits.shape[1:3], -1)
    probability = class_logits.softmax(-1).gather(3, index)
    bce, dice = joint(sums, inside)
    return (weights[1] * bce + weights[2] * dice).movedim(-1, 1) - weights[0] * probability


@dataclass(frozen=True)
class Problem:
    """What is to be matched in one view.

    Attributes:
        costs: (O, M, W, Q, G).
        present: (M, W, G) bool.
    """

    costs: Tensor
    present: Tensor


def on_host(problems: Sequence[Problem]) -> list[Problem]:
    """The problems of several views on the host, in one copy."""
    moved = to_host([x for problem in problems for x in (problem.costs, problem.present)])
    return [Problem(*pair) for pair in zip(moved[::2], moved[1::2], strict=True)]


def hungarian(costs: Tensor, present: Tensor) -> Matches:
    """Cheapest assignment of every present instance to a query of its own.

    Args:
        costs: (O, M, W, Q, G), on the host; of a diverged model it is not finite, the assignment is then any one.
        present: (M, W, G) bool; other instances are not matched. With more instances than queries the cheapest are.

    Returns:
        The pairs by output, clip, window and query.
    """
    finite, here = costs.nan_to_num().numpy(), present.numpy()
    rows: list[np.ndarray] = [np.zeros((0, 5), dtype=np.int64)]
    for output, cost in enumerate(finite):
        for clip, window in zip(*np.nonzero(here.any(-1)), strict=True):
            instances = np.flatnonzero(here[clip, window])
            query, column = linear_sum_assignment(cost[clip, window][:, instances])
            where = np.broadcast_to((output, clip, window), (len(query), 3))
            rows.append(np.column_stack([where, query, instances[column]]))
    return Matches(*torch.from_numpy(np.concatenate(rows)).unbind(1))
