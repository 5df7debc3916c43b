"""Point sampling on masks (PointRend, as used by Mask2Former's losses)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps at points; outside the map is zero.

    Args:
        maps: (M, C, h, w).
        points: (M, P, 2), x and y in [0, 1].

    Returns:
        (M, C, P).
    """
    return F.grid_sample(maps, (2 * points - 1)[:, None], align_corners=False).squeeze(2)


def uncertain_points(logits: Tensor, num_points: int, oversample: float, importance: float) -> Tensor:
    """Draw points where the sign of a mask is least sure, plus some anywhere.

    Args:
        logits: (M, 1, h, w) mask logits.
        num_points: P.
        oversample: candidates per point.
        importance: fraction of the P points taken as the most uncertain candidates; the rest is uniform.

    Returns:
        (M, P, 2) in [0, 1].
    """
    num_masks = logits.shape[0]
    num_uncertain = int(importance * num_points)
    candidates = torch.rand(num_masks, int(oversample * num_points), 2, device=logits.device)
    certainty = sample_points(logits, candidates).squeeze(1).abs()
    chosen = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    uniform = torch.rand(num_masks, num_points - num_uncertain, 2, device=logits.device)
    return torch.cat([uncertain, uniform], 1)
