"""Which published network a backbone is, read off the shapes of its tensors (our names)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count

from torch import Tensor
from torchvision.models.resnet import Bottleneck

from syncvis.config import ResNetConfig, SwinConfig
from syncvis.models.resnet import DEPTHS
from syncvis.models.swin import SIZES

FourNumbers = tuple[int, int, int, int]


def infer_backbone(tensors: Mapping[str, Tensor]) -> ResNetConfig | SwinConfig | None:
    """The config of the backbone among ``tensors``; None if it is no ResNet or Swin, or too much is missing."""
    depths = _depths(tensors)
    patches, stem = (tensors.get(f"backbone.{name}.weight") for name in ("patch_embed.0", "stem"))
    if patches is not None and patches.ndim == 4 and all(depths):
        return _swin(patches.shape[0], depths, tensors)
    if stem is not None and stem.ndim == 4:
        return _resnet(stem.shape[0], depths, tensors)
    return None


def describe(config: ResNetConfig | SwinConfig | None) -> str:
    """In words: the name of the network, and what differs from the published one."""
    if config is None:
        return "another backbone"
    given = config.model_dump(include={"width", "dim", "depths", "heads", "window"}, exclude_defaults=True)
    changes = ", ".join(f"{key} {value}" for key, value in given.items())
    return f"a {config.name} with {changes}" if changes else f"a {config.name}"


def _depths(tensors: Mapping[str, Tensor]) -> FourNumbers:
    """Blocks of each stage."""
    found = [re.match(r"backbone\.stages\.([0-3])\.(\d+)\.", name) for name in tensors]
    places = {(int(m[1]), int(m[2])) for m in found if m}
    first, second, third, fourth = (max((j + 1 for s, j in places if s == stage), default=0) for stage in range(4))
    return first, second, third, fourth


def _resnet(width: int, depths: FourNumbers, tensors: Mapping[str, Tensor]) -> ResNetConfig | None:
    bottleneck = any(re.match(r"backbone\.stages\.\d\.\d+\.conv3\.", name) for name in tensors)
    for name, (block, published) in DEPTHS.items():
        if published == depths and (block is Bottleneck) == bottleneck:
            return ResNetConfig.model_validate({"name": name, "width": width})
    return None


def _swin(dim: int, depths: FourNumbers, tensors: Mapping[str, Tensor]) -> SwinConfig | None:
    names = [f"backbone.stages.{i}.0.attn.relative_position_bias_table" for i in range(4)]
    tables = [tensors[name] for name in names if name in tensors and tensors[name].ndim == 2]
    if len(tables) < 4:
        return None
    heads = tuple(table.shape[1] for table in tables)
    window = next(w for w in count(1) if (2 * w - 1) ** 2 >= tables[0].shape[0])
    found = dim, depths, heads, window
    near = [name for name, size in SIZES.items() if size[:3] == found[:3]] or ["swin_t"]
    changes = {
        key: value
        for key, value, published in zip(("dim", "depths", "heads", "window"), found, SIZES[near[0]], strict=True)
        if value != published
    }
    return SwinConfig.model_validate({"name": near[0], **changes})
