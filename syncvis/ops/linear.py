"""Linear layers on many tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

MANY = 192
"""Rows from which a convolution pays."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, on the CPU as a 1x1 convolution: oneDNN uses the whole width of the CPU's vectors, where the BLAS
    library that PyTorch brings does so on Intel's CPUs only (about twice as fast on AMD's).

    Args:
        x: (..., C).
        weight: (C', C).
        bias: (C',).

    Returns:
        (..., C').
    """
    if x.device.type != "cpu" or x.itemsize > 4 or x.dim() < 2 or x.numel() < MANY * x.shape[-1]:
        return F.linear(x, weight, bias)
    tokens = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # one channels-last image, a token per pixel
    return F.conv2d(tokens, weight[:, :, None, None], bias).permute(0, 2, 3, 1).view(*x.shape[:-1], -1)


class TokenLinear(nn.Linear):
    """``nn.Linear`` for many tokens, see :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        return linear(x, self.weight, self.bias)
