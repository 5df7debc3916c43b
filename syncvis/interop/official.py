"""A model of ours that is a published Mask2Former or Mask2Former-VIS: same sizes, same weights, same outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncvis.config import RunConfig, resolve, set_dotted
from syncvis.errors import StorageError
from syncvis.interop.backbones import describe, infer_backbone
from syncvis.interop.checkpoints import convert
from syncvis.interop.stored import as_stored
from syncvis.interop.translate import Translation, translate
from syncvis.methods.mask2former_vis import Mask2FormerVIS, build
from syncvis.models.pixel_decoder import NUM_LEVELS
from syncvis.structures import Level
from syncvis.training.checkpoint import spell

STRUCTURES: dict[Level, str] = {"frame": "frame_only", "video": "video_only"}

_QUERIES = "decoder.query_sets.frame.content.weight"
_ENCODER = "pixel_decoder.layers.0"
_DECODER = "decoder.stacks.0"


def from_official(
    state: Mapping[str, Any],
    level: Level = "video",
    *,
    heads: int = 8,
    points: int = 4,
    changes: Mapping[str, Any] | None = None,
) -> Mask2FormerVIS:
    """Build the model that an official state dict is of, and load it: every tensor of both finds its place.

    Args:
        state: of Mask2Former (``level="frame"``: each frame by itself) or Mask2Former-VIS (``level="video"``), also
            inside the usual wrappers, e.g. ``torch.load("model.pth")["model"]``.
        heads: of the query decoder's attention; no shape tells.
        points: that a head of the deformable attention reads in each level; its heads follow from it.
        changes: config entries that are no sizes, by dotted key, e.g. ``{"criterion.points": 100}``.

    Returns:
        The model in evaluation mode, for as many classes as the file has.

    Raises:
        StorageError: The file is no such model, or holds parts that the model does not have.
    """
    tensors = as_stored(state).tensors
    found = translate(tensors)
    config = official_config(found, level, heads, points, changes or {})
    model = build(config, _size(found, f"{_DECODER}.heads.class_embed.weight") - 1)
    converted = convert(tensors, model.state_dict())
    if converted.unused:
        fix = "use `syncvis weights import`, which takes the Mask2Former in it"
        raise StorageError(f"holds more than a Mask2Former: {spell(converted.unused)}", file=found.kind, fix=fix)
    model.load_state_dict(converted.tensors)
    return model.eval()


def official_config(found: Translation, level: Level, heads: int, points: int, changes: Mapping[str, Any]) -> RunConfig:
    """The config whose model has the sizes of the tensors.

    Raises:
        StorageError: A tensor that tells a size is missing.
    """
    if not found.whole:
        raise StorageError("is a backbone alone, not a model", file=found.kind, fix="give a Mask2Former")
    backbone = infer_backbone(found.tensors)
    if backbone is None:
        raise StorageError(f"holds {describe(backbone)}", file=found.kind, fix="give a ResNet or a Swin")
    queries = _size(found, _QUERIES)
    model = {
        "hidden_dim": _size(found, _QUERIES, 1),
        "mask_dim": _size(found, "pixel_decoder.mask_features.weight"),
        "backbone": backbone.model_dump(),
        "pixel_decoder": {
            "layers": _layers(found, "pixel_decoder.layers."),
            "heads": _size(found, f"{_ENCODER}.attention.attention_weights.weight") // (NUM_LEVELS * points),
            "points": points,
            "ffn_dim": _size(found, f"{_ENCODER}.ffn.linear1.weight"),
        },
        "decoder": {
            "layers": _layers(found, f"{_DECODER}.layers."),
            "heads": heads,
            "ffn_dim": _size(found, f"{_DECODER}.layers.0.ffn.linear1.weight"),
            "frame_queries": queries,
            "video_queries": queries,
        },
    }
    tree: dict[str, Any] = {
        "data": {"root": "."},
        "train": {"steps": 0},
        "model": model,
        "method": {"structure": STRUCTURES[level]},
        "sync": None,
        "subclips": None,
    }
    for key, value in changes.items():
        tree = set_dotted(tree, key, value)
    return resolve(tree, found.kind)


def _size(found: Translation, name: str, axis: int = 0) -> int:
    tensor = found.tensors.get(name)
    if tensor is None or tensor.ndim <= axis:
        raise StorageError(f"has no {name} that tells a size", file=found.kind, fix="give a whole Mask2Former")
    return tensor.shape[axis]


def _layers(found: Translation, prefix: str) -> int:
    """How many there are: one more than the largest number after ``prefix``."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in found.tensors if name.startswith(prefix)]
    return max((int(number) + 1 for number in numbers), default=0)
