"""Copies between the host and a device. The host waits where it reads values, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tensors of one device, brought to the host together: it waits once.

    Args:
        tensors: of types that the widest of them holds exactly.
    """
    if all(x.device.type == "cpu" for x in tensors):
        return list(tensors)
    packed = torch.cat([x.detach().flatten() for x in tensors]).cpu()
    parts = packed.split([x.numel() for x in tensors])
    return [part.view(x.shape).to(x.dtype) for part, x in zip(parts, tensors, strict=True)]


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Small tensors of the host and of one type, copied to a device together; nobody waits for it."""
    if device.type == "cpu":
        return list(tensors)
    packed = torch.cat([x.flatten() for x in tensors]).to(device, non_blocking=True)
    parts = packed.split([x.numel() for x in tensors])
    return [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)]


def frame_index(frames: Sequence[int], device: torch.device) -> Tensor:
    """Numbers of frames as an index: (T,) int64 on the device."""
    return to_device([torch.tensor(frames, dtype=torch.int64)], device)[0]
