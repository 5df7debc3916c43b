"""Mask costs and losses from per-frame partial sums.

BCE and dice of a tube on any set of frames are functions of four sums per frame. So the points are sampled once, and
the full clip and all its sub-clips are only different additions over T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.transfer import to_device


@dataclass(frozen=True)
class FrameSums:
    """Sums over P sampled points, per frame; the leading shape ... is broadcast between the fields.

    Attributes:
        bce: (..., T) binary cross-entropy.
        overlap: (..., T) probability on target points.
        predicted: (..., T) probability.
        target: (..., T) target points.
        points: P.
    """

    bce: Tensor
    overlap: Tensor
    predicted: Tensor
    target: Tensor
    points: int

    @staticmethod
    def stack(parts: Sequence[FrameSums], dim: int = -1) -> FrameSums:
        """Join sums of single frames, or of clips, along a new dimension."""
        fields = zip(*((p.bce, p.overlap, p.predicted, p.target) for p in parts), strict=True)
        bce, overlap, predicted, target = (torch.stack(field, dim) for field in fields)
        return FrameSums(bce, overlap, predicted, target, parts[0].points)


def all_pairs(logits: Tensor, targets: Tensor) -> FrameSums:
    """Sums of every query with every instance in one frame.

    Args:
        logits: (P, Q) mask logits at the points.
        targets: (G, P) mask values at the same points, in [0, 1].

    Returns:
        FrameSums of shape (Q, G); those of one frame have no T.
    """
    bce = F.softplus(logits).sum(0)[:, None] - (targets @ logits).T
    probability = logits.sigmoid()
    overlap = (targets @ probability).T
    return FrameSums(bce, overlap, probability.sum(0)[:, None], targets.sum(-1)[None], len(logits))


def matched_pairs(logits: Tensor, targets: Tensor) -> FrameSums:
    """Sums of pairs: logits and targets (U, T, P) -> FrameSums of shape (U, T)."""
    probability = logits.sigmoid()
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)
    overlap = (probability * targets).sum(-1)
    return FrameSums(bce, overlap, probability.sum(-1), targets.sum(-1), logits.shape[-1])


def joint(sums: FrameSums, inside: Tensor) -> tuple[Tensor, Tensor]:
    """One BCE mean and one dice over all points of all frames of a window (VITA's reduction).

    Args:
        sums: of shape (..., T).
        inside: (T, W) 1 where frame t belongs to window w.

    Returns:
        BCE and dice, each (..., W).
    """
    bce = (sums.bce @ inside) / (sums.points * inside.sum(0))
    return bce, _dice(*(x @ inside for x in (sums.overlap, sums.predicted, sums.target)))


def per_frame_sum(sums: FrameSums, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame is a mask of its own, summed over the window (Mask2Former-VIS' loss); same shapes as :func:`joint`."""
    return sums.bce @ inside / sums.points, _dice(sums.overlap, sums.predicted, sums.target) @ inside


REDUCTIONS = {"joint": joint, "per_frame_sum": per_frame_sum}


def _dice(overlap: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    return 1 - (2 * overlap + 1) / (predicted + target + 1)


def frames_inside(windows: list[tuple[int, ...]], num_frames: int, like: Tensor) -> Tensor:
    """(T, W) indicator of the frames of each window."""
    inside = torch.zeros(num_frames, len(windows), dtype=like.dtype)
    for w, frames in enumerate(windows):
        inside[list(frames), w] = 1
    return to_device([inside], like.device)[0]
