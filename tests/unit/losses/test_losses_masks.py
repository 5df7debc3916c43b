"""Per-frame sums against the textbook, on random data."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import pair_sums
from torch import Tensor

from syncvis.losses.mask_losses import (
    REDUCTIONS,
    FrameSums,
    frames_inside,
    joint,
    matched_pairs,
    per_frame_sum,
)

WINDOWS = [(0, 1, 2), (0, 1), (0, 2), (2,)]


def _textbook(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """BCE and dice of one mask or tube, given as vectors."""
    bce = -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits)).mean()
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * targets).sum() + 1) / (probability.sum() + targets.sum() + 1)
    return bce, dice


def _reduced(name: str, logits: Tensor, targets: Tensor, frames: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """logits and targets (T, P)."""
    if name == "joint":
        return _textbook(logits[list(frames)].flatten(), targets[list(frames)].flatten())
    each = [_textbook(logits[t], targets[t]) for t in frames]
    return torch.stack([bce for bce, _ in each]).sum(), torch.stack([dice for _, dice in each]).sum()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_matched_pairs_are_the_textbook(name: str) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 3, 20, dtype=torch.double), torch.rand(4, 3, 20, dtype=torch.double)
    inside = frames_inside(WINDOWS, 3, logits)
    bce, dice = REDUCTIONS[name](matched_pairs(logits, targets), inside)
    assert bce.shape == dice.shape == (4, len(WINDOWS))
    for u in range(4):
        for w, frames in enumerate(WINDOWS):
            wanted = _reduced(name, logits[u], targets[u], frames)
            torch.testing.assert_close((bce[u, w], dice[u, w]), wanted)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_all_pairs_are_the_matched_pairs_of_each(name: str) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, 3, 20, dtype=torch.double), torch.rand(2, 5, 3, 20, dtype=torch.double)
    inside = frames_inside(WINDOWS, 3, logits)
    bce, dice = REDUCTIONS[name](pair_sums(logits, targets), inside)
    assert bce.shape == dice.shape == (2, 4, 5, len(WINDOWS))
    for q in range(4):
        for g in range(5):
            pair = REDUCTIONS[name](matched_pairs(logits[:, q], targets[:, g]), inside)
            torch.testing.assert_close((bce[:, q, g], dice[:, q, g]), pair)


def test_equal_frames() -> None:
    """The sum over two equal frames is twice the joint mean; large logits do not overflow."""
    logits = torch.tensor([[[-200.0, 3.0, 200.0]]]).expand(1, 2, 3)
    targets = torch.tensor([[[1.0, 1.0, 0.0]]]).expand(1, 2, 3)
    inside = torch.ones(2, 1)
    for sums in (matched_pairs(logits, targets), pair_sums(logits[:, None], targets[:, None])):
        summed, mean = per_frame_sum(sums, inside)[0], joint(sums, inside)[0]
        torch.testing.assert_close(summed, 2 * mean)
        torch.testing.assert_close(mean.flatten(), torch.tensor([(200 + 0.048587 + 200) / 3]))


def test_a_perfect_and_an_empty_mask() -> None:
    inside = torch.ones(1, 1)
    perfect = FrameSums(*(torch.tensor([[x]]) for x in (0.0, 6.0, 6.0, 6.0)), points=9)
    empty = FrameSums(*(torch.tensor([[0.0]]) for _ in range(4)), points=9)
    for sums in (perfect, empty):
        assert [float(x) for x in joint(sums, inside)] == [0, 0]


def test_frames_inside() -> None:
    inside = frames_inside([(0, 2), (1,)], 3, torch.zeros(1, dtype=torch.double))
    assert inside.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert inside.dtype == torch.double


def test_joined_sums_keep_their_fields() -> None:
    frames = [FrameSums(*(torch.tensor([10.0 * t + field]) for field in range(4)), points=9) for t in range(2)]
    joined = FrameSums.stack(frames)
    assert [x.tolist() for x in (joined.bce, joined.overlap, joined.predicted, joined.target)] == [
        [[field, 10.0 + field]] for field in range(4)
    ]
    assert joined.points == 9
