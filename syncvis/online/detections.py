"""What a detector finds in one frame, and which of it is worth tracking."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """D detections of one frame.

    Attributes:
        query: (D,) int64 number of the query that each comes from.
        scores: (D,) confidence.
        classes: (D, K) class logits, or probabilities: what is averaged over the frames of a track.
        embeddings: (D, C) what identity is read from.
        inside: (D, h, w) bool masks.
    """

    query: Tensor
    scores: Tensor
    classes: Tensor
    embeddings: Tensor
    inside: Tensor

    @classmethod
    def of(cls, scores: Tensor, classes: Tensor, embeddings: Tensor, inside: Tensor) -> Detections:
        """One detection for each query."""
        return cls(torch.arange(len(scores), device=scores.device), scores, classes, embeddings, inside)

    def __len__(self) -> int:
        return len(self.query)

    def take(self, index: Tensor) -> Detections:
        """Some of them, by position."""
        tensors = (self.query, self.scores, self.classes, self.embeddings, self.inside)
        return Detections(*(x[index] for x in tensors))


def confident(detections: Detections, threshold: float) -> Detections:
    """Those with a score above the threshold, at least the best one; best first."""
    scores, order = detections.scores.sort(descending=True, stable=True)
    return detections.take(order[: max(1, int((scores > threshold).sum()))])


def distinct(detections: Detections, overlap: float) -> Detections:
    """Those whose mask has at most this IoU with that of every one before it that stays (mask NMS).

    Args:
        detections: best first.
    """
    ious = mask_ious(detections.inside).cpu()
    kept: list[int] = []
    for index, row in enumerate(ious):
        if not (row[kept] > overlap).any():
            kept.append(index)
    return detections.take(torch.tensor(kept, device=detections.query.device))


def mask_ious(inside: Tensor) -> Tensor:
    """Masks (D, h, w) bool -> (D, D) IoU; two empty masks overlap fully (as in IDOL's mask_iou)."""
    with torch.autocast(inside.device.type, enabled=False):  # counts of pixels do not fit half precision
        flat = inside.flatten(1).float()
        both, area = flat @ flat.T, flat.sum(1)
    return (both + 1e-6) / (area[:, None] + area - both + 1e-6)
