"""Sine position codes over space and over the frames of a clip (Mask2Former, Mask2Former-VIS)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _sine(length: int, channels: int, device: torch.device) -> Tensor:
    """(length, channels) code of the places 1..length, scaled to (0, 2 pi]."""
    place = torch.arange(1, length + 1, device=device) / (length + 1e-6) * (2 * math.pi)
    exponent = 2 * (torch.arange(channels, device=device) // 2) / channels
    angles = place[:, None] / 10000**exponent
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], -1).flatten(1)


def spatial_code(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """(height, width, channels): half of the channels code y, the other half x."""
    y = _sine(height, channels // 2, device)[:, None].expand(-1, width, -1)
    x = _sine(width, channels // 2, device)[None].expand(height, -1, -1)
    return torch.cat([y, x], -1)


def time_code(num_frames: int, channels: int, device: torch.device) -> Tensor:
    """(T, channels) code of frame t = 1..T, normalised by T."""
    return _sine(num_frames, channels, device)
