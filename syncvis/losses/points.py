"""Where matching and mask losses look: points drawn anew in every step, or given ones to repeat a computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from syncvis.ops.points import uncertain_points


class PointSource(Protocol):
    """The points of one call of the criterion."""

    def matching(self, num_clips: int, device: torch.device) -> Sequence[Tensor]:
        """Points (B, P, 2) for matching: one tensor for every output, or a single one that all of them share.

        Frame queries also take (B*T, P, 2), points of each frame's own.
        """
        ...

    def losses(self, logits: Tensor) -> Tensor:
        """Points (U, P, 2) for the mask losses of U masks (U, 1, h, w), the masks of all outputs one after another."""
        ...


@dataclass(frozen=True)
class RandomPoints:
    """Mask2Former's sampling, except that one set of matching points serves all outputs and frames of a clip.

    Attributes:
        points: P.
        oversample, importance: see :func:`syncvis.ops.points.uncertain_points`.
    """

    points: int
    oversample: float
    importance: float

    def matching(self, num_clips: int, device: torch.device) -> Sequence[Tensor]:
        return [torch.rand(num_clips, self.points, 2, device=device)]

    def losses(self, logits: Tensor) -> Tensor:
        return uncertain_points(logits, self.points, self.oversample, self.importance)


@dataclass(frozen=True)
class GivenPoints:
    """Points chosen elsewhere, for one view of the predictions.

    Attributes:
        match_points: for each output, before the first layer first, (B, P, 2).
        loss_points: for each output, (pairs * T, P, 2): matched pairs by clip, then query; the frames of each in order.
    """

    match_points: Sequence[Tensor]
    loss_points: Sequence[Tensor]

    def matching(self, num_clips: int, device: torch.device) -> Sequence[Tensor]:
        return [points.to(device) for points in self.match_points]

    def losses(self, logits: Tensor) -> Tensor:
        return torch.cat(list(self.loss_points)).to(logits)
