"""ResNet as the field uses it for segmentation: torchvision's blocks, four maps out, batch norm usually frozen.

The stride stands in the 3x3 convolution (torchvision; detectron2's ``STRIDE_IN_1X1: False``). Layout and order of the
operations are detectron2's, so that its features come out bit for bit: folding the norms into the weights, or the
channels last, would be faster, but some ReLUs then change sides through rounding, and gradients with them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class NormedConv(nn.Module):
    """A convolution and its batch norm.

    Args:
        conv: without bias.
        norm: ``FrozenBatchNorm2d`` or ``BatchNorm2d`` of its output.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.weight = conv.weight
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        x = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        norm = self.norm
        if not isinstance(norm, FrozenBatchNorm2d):
            return norm(x)
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        return x.mul_(scale[:, None, None].to(x.dtype)).add_(shift[:, None, None].to(x.dtype))


class ResNet(nn.Module):
    """Stem and four stages; maps at strides 4, 8, 16 and 32.

    Args:
        name: a key of DEPTHS.
        width: channels of the stem, 64 in the published networks.
        norm: "frozen" (fixed statistics and affine part, no parameters) or "batch" (live).
        freeze_at: number of parts, stem first, that get no gradient and, with live norms, keep their statistics.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, name: str, width: int = 64, norm: str = "frozen", freeze_at: int = 0) -> None:
        super().__init__()
        block, depths = DEPTHS[name]
        norm_layer = FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d
        self.stem = NormedConv(nn.Conv2d(3, width, 7, 2, 3, bias=False), norm_layer(width))
        self.stages = nn.ModuleList()
        inputs = width
        for i, depth in enumerate(depths):
            planes = width * 2**i
            blocks = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                blocks.append(_block(block, inputs, planes, stride, norm_layer))
                inputs = planes * block.expansion
            self.stages.append(nn.Sequential(*blocks))
        self.channels = tuple(width * 2**i * block.expansion for i in range(4))
        self.frozen_parts: list[nn.Module] = [self.stem, *self.stages][:freeze_at]
        _initialise(self)
        for part in self.frozen_parts:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> ResNet:
        """Frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self.frozen_parts:
            part.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> four maps (N, channels[i], H / strides[i], W / strides[i])."""
        x = F.max_pool2d(F.relu(self.stem(images), inplace=True), 3, 2, 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


def _block(
    block: type[BasicBlock | Bottleneck], inputs: int, planes: int, stride: int, norm_layer: type[nn.Module]
) -> nn.Module:
    """A torchvision block whose convolutions hold their norms."""
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = NormedConv(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm_layer(outputs))
    made = block(inputs, planes, stride, shortcut, base_width=64, norm_layer=norm_layer)
    for index in range(1, 4 if block is Bottleneck else 3):
        conv, norm = getattr(made, f"conv{index}"), getattr(made, f"bn{index}")
        setattr(made, f"conv{index}", NormedConv(conv, norm))
        setattr(made, f"bn{index}", nn.Identity())
    return made


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, NormedConv):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
