"""Point sampling on masks (PointRend, as used by Mask2Former's losses)."""

from __future__ import annotations

from collections.abc import Iterator

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
    if maps.is_cuda and torch.are_deterministic_algorithms_enabled():
        return _gather_points(maps, points)
    return F.grid_sample(maps, (2 * points - 1)[:, None], align_corners=False).squeeze(2)


def _gather_points(maps: Tensor, points: Tensor) -> Tensor:
    """:func:`sample_points` from operations that have a deterministic gradient on CUDA, as ``grid_sample`` has not."""
    height, width = maps.shape[-2:]
    cells = maps.flatten(2)
    total = maps.new_zeros(*maps.shape[:2], points.shape[1])
    for place, share in _corners(points, height, width):
        total = total + share[:, None] * cells.gather(2, place[:, None].expand(-1, maps.shape[1], -1))
    return total


def _corners(points: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The four cells around each point (M, P, 2): index in the flattened map and bilinear share, 0 outside."""
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            yield place.long(), share_x * share_y * inside


def sample_masks(masks: Tensor, which: Tensor, points: Tensor) -> Tensor:
    """Like :func:`sample_points`, for boolean masks that are read several times: nothing of their size is made.

    Args:
        masks: (A, H, W) bool.
        which: (M,) the mask that each set of points reads.
        points: (M, P, 2), x and y in [0, 1].

    Returns:
        (M, P) values in [0, 1], of the type of ``points``.
    """
    height, width = masks.shape[-2:]
    pixels, first = masks.flatten(), (which * (height * width))[:, None]
    total = points.new_zeros(points.shape[:2])
    for place, share in _corners(points, height, width):
        total += share * pixels[first + place]
    return total


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
