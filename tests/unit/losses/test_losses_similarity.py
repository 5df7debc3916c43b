from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from syncvis.losses.matcher import Matches
from syncvis.losses.similarity import similarity_loss

BRANCHES, CLIPS, FRAMES, FRAME_QUERIES, CLIP_QUERIES, DIM = 2, 3, 4, 5, 6, 8

Pair = tuple[int, int, int, int]
"""Output, clip, query and instance."""


def _matches(pairs: Sequence[Pair]) -> Matches:
    output, clip, query, instance = torch.tensor(list(pairs), dtype=torch.int64).view(-1, 4).unbind(1)
    return Matches(output, clip, torch.zeros_like(output), query, instance)


def _embeddings(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frame = torch.randn(BRANCHES, CLIPS, FRAMES, FRAME_QUERIES, DIM, generator=generator)
    return frame, torch.randn(BRANCHES, CLIPS, CLIP_QUERIES, DIM, generator=generator)


def _some_pairs() -> tuple[list[Pair], list[Pair]]:
    """Clip 0 has three instances, one of them seen in frame 2 only, clip 1 has one, clip 2 has none."""
    of_frames, of_clips = [], []
    for branch in range(BRANCHES):
        for instance, frames in enumerate(([0, 1, 3], [2], [0, 1, 2, 3])):
            of_frames += [(branch, t, (instance + branch + t) % FRAME_QUERIES, instance) for t in frames]
            of_clips.append((branch, 0, 2 * instance + branch % 2, instance))
        of_frames += [(branch, FRAMES + t, (2 * t + branch) % FRAME_QUERIES, 0) for t in (1, 3)]
        of_clips.append((branch, 1, 3, 0))
    return of_frames, of_clips


def _by_hand(
    frame: Tensor, clip: Tensor, of_frames: Sequence[Pair], of_clips: Sequence[Pair], only: Sequence[int] = range(CLIPS)
) -> tuple[float, int]:
    """Sum over all pairs and their number, of some clips."""
    members = [(o, c // FRAMES, g, frame[o, c // FRAMES, c % FRAMES, q]) for o, c, q, g in of_frames]
    members += [(o, c, g, clip[o, c, q]) for o, c, q, g in of_clips]
    total, count = 0.0, 0
    for branch, b, g, x in members:
        for other_branch, other_b, other_g, y in members:
            if (branch, b) == (other_branch, other_b) and b in only:
                dot = sum(float(i) * float(j) for i, j in zip(x, y, strict=True))
                sign = -1 if g == other_g else 1
                total += max(sign * dot, 0) + math.log1p(math.exp(-abs(dot)))
                count += 1
    return total, count


def test_every_pair_counts_once() -> None:
    frame, clip = _embeddings()
    of_frames, of_clips = _some_pairs()
    total, count = _by_hand(frame, clip, of_frames, of_clips)
    assert count == BRANCHES * (11**2 + 3**2)
    loss = similarity_loss(frame, clip, _matches(of_frames), _matches(of_clips))
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_the_order_of_matches_says_nothing() -> None:
    frame, clip = _embeddings()
    of_frames, of_clips = _some_pairs()
    straight = similarity_loss(frame, clip, _matches(of_frames), _matches(of_clips))
    mixed = similarity_loss(frame, clip, _matches(of_frames[::-1]), _matches(of_clips[::-1]))
    torch.testing.assert_close(mixed, straight)


def test_two_clips_are_the_mean_over_their_pairs() -> None:
    """Pairs of different clips are not looked at."""
    frame, clip = _embeddings()
    of_frames, of_clips = _some_pairs()
    both = similarity_loss(frame, clip, _matches(of_frames), _matches(of_clips)).item()
    first = [p for p in of_frames if p[1] < FRAMES], [p for p in of_clips if p[1] == 0]
    second = (
        [(o, c - FRAMES, q, g) for o, c, q, g in of_frames if c >= FRAMES],
        [(o, c - 1, q, g) for o, c, q, g in of_clips if c == 1],
    )
    alone = [
        similarity_loss(frame[:, b : b + 1], clip[:, b : b + 1], _matches(x), _matches(y)).item()
        for b, (x, y) in enumerate((first, second))
    ]
    pairs = [_by_hand(frame, clip, of_frames, of_clips, [b])[1] for b in (0, 1)]
    assert pairs[0] > pairs[1]
    wanted = (alone[0] * pairs[0] + alone[1] * pairs[1]) / sum(pairs)
    assert both == pytest.approx(wanted, rel=1e-5)


def test_it_is_small_where_instances_are_apart() -> None:
    """Every instance far out along a direction of its own, against all others; and large once two are swapped."""
    of_frames = [(0, t, g, g) for t in range(FRAMES) for g in (0, 1)]
    of_clips = [(0, 0, g, g) for g in (0, 1)]
    frame, clip = torch.zeros(1, 1, FRAMES, FRAME_QUERIES, DIM), torch.zeros(1, 1, CLIP_QUERIES, DIM)
    for g, side in ((0, 1.0), (1, -1.0)):
        frame[..., g, 0], clip[..., g, 0] = 6 * side, 6 * side
    assert similarity_loss(frame, clip, _matches(of_frames), _matches(of_clips)).item() < 1e-9
    swapped = [(o, c, q, 1 - g) for o, c, q, g in of_clips]
    assert similarity_loss(frame, clip, _matches(of_frames), _matches(swapped)).item() > 1


def test_nothing_matched_is_zero_with_a_gradient() -> None:
    frame, clip = (x.requires_grad_() for x in _embeddings())
    loss = similarity_loss(frame, clip, _matches([]), _matches([]))
    assert loss.item() == 0
    for gradient in torch.autograd.grad(loss, (frame, clip)):
        assert not gradient.any()
