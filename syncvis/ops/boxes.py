"""Boxes around masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes


def boxes_of(masks: Tensor) -> Tensor:
    """The smallest box around each mask: left, top, right, bottom in pixels, right and bottom outside.

    Args:
        masks: (..., H, W) bool, such as the (G, T, H, W) of a ClipTarget.

    Returns:
        (..., 4) float32, all 0 where a mask is empty. Width times height is the number of pixels in the box.
    """
    flat = masks.flatten(0, -3)
    boxes = torch.zeros(len(flat), 4, device=masks.device)
    shown = flat.flatten(1).any(1)
    if shown.any():
        # torchvision gives the last pixel that belongs to the mask.
        boxes[shown] = masks_to_boxes(flat[shown]).float() + boxes.new_tensor([0, 0, 1, 1])
    return boxes.unflatten(0, masks.shape[:-2])
