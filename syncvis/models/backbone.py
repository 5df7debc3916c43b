"""Image backbones: (N, 3, H, W) -> four maps, fine to coarse."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor, nn


class Backbone(Protocol):
    """What a backbone promises: ``channels`` and ``strides`` of its four maps, fine to coarse."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised images -> maps (N, channels[i], H / strides[i], W / strides[i])."""
        ...


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm and a projected shortcut; the first one strides."""

    recomputable: ClassVar[bool] = True

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class TinyBackbone(nn.Module):
    """A four-stage residual network that a CPU trains in minutes.

    Args:
        width: channels of the first stage; each further stage has twice as many. A multiple of 8.
        base_stride: stride of the first stage, 2 or 4.
    """

    def __init__(self, width: int, base_stride: int) -> None:
        super().__init__()
        self.channels = tuple(width * 2**i for i in range(4))
        self.strides = tuple(base_stride * 2**i for i in range(4))
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.GroupNorm(8, width), nn.ReLU())
        inputs = (width, *self.channels[:-1])
        strides = (base_stride // 2, 2, 2, 2)
        blocks = zip(inputs, self.channels, strides, strict=True)
        self.stages = nn.ModuleList(ResidualBlock(*block) for block in blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> four maps at ``strides``."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)
