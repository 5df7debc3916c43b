"""Everything that a model computes on the way, to compare it with a published implementation number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from syncvis.data.loader import pad_images
from syncvis.methods.masked import MaskedMethod
from syncvis.outputs import ClipOutput
from syncvis.structures import ClipBatch, ClipTarget, fold

SIZE_DIVISOR = 32

LOSS_TERMS = {
    "class": "ce",
    "mask": "mask",
    "dice": "dice",
    "similarity": "sim",
    "contrast": "reid",
    "cosine": "aux_reid",
}
"""Our terms -> the published ones."""

LOSS_PREFIXES = {"clip": "loss_", "frame": "loss_", "temporal": "loss_vita_", "reid": "loss_"}
"""What losses are of -> how their published names begin, in detectron2's Mask2Former, VITA and CTVIS."""


@dataclass(frozen=True)
class Trace:
    """The intermediate results of one pass, B clips of T frames.

    Attributes:
        backbone: four maps (B*T, C, h, w), fine to coarse.
        levels: three maps of the pixel decoder (B, T, C, h, w), coarse to fine.
        mask_features: (B, T, C, h, w).
        clip_mask_features: (B, T, C, h, w), those of VITA's clip queries.
        class_logits: of all L + 1 outputs, before the first layer first: (B, Q, K+1), of frame queries (B, T, Q, K+1).
        mask_logits: of all L + 1 outputs: (B, Q, T, h, w), of frame queries (B, T, Q, h, w).
        output: every prediction, also those that a method makes besides; ``output.named()`` has them by name.
    """

    backbone: tuple[Tensor, ...]
    levels: tuple[Tensor, ...]
    mask_features: Tensor
    clip_mask_features: Tensor | None
    class_logits: tuple[Tensor, ...]
    mask_logits: tuple[Tensor, ...]
    output: ClipOutput


def clip_batch(frames: Tensor, targets: Sequence[ClipTarget] = ()) -> ClipBatch:
    """Frames (B, T, 3, H, W), RGB in 0..255, as the batch that our models read, padded to multiples of 32.

    Masks of the targets must have the padded size already.
    """
    images, valid = pad_images(list(frames.float() / 255), SIZE_DIVISOR)
    return ClipBatch(images, valid, tuple(targets))


def trace(model: MaskedMethod[Any], frames: Tensor) -> Trace:
    """Run a model with one level of queries on frames (B, T, 3, H, W), RGB in 0..255; gradients flow.

    In training mode it does what it does with a clip in training, in evaluation mode what it does with a video.
    """
    batch = clip_batch(frames)
    maps = model.backbone(fold(model.normalise(batch.images, batch.valid)))
    features = model.encode(batch.images, batch.valid)
    output = model.decode(features) if model.training else model.decode_video(features)
    predictions = [level for layer in output.layers for level in layer.levels()]
    return Trace(
        tuple(maps),
        features.levels,
        features.mask,
        features.clip_mask,
        tuple(p.class_logits for p in predictions),
        tuple(p.mask_logits for p in predictions),
        output,
    )


def official_names(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of the whole clip, or of frame queries, under their published names: ``loss_ce``, ``loss_mask_0``, ...

    There, the last output has no number. Of a Mask2Former, output i, before layer i + 1, has the number i; of VITA's
    clip queries (``loss_vita_ce_0``), the output after layer i + 1 has.
    """
    parts = {name: name.split("/") for name in losses if name.split("/")[0] in LOSS_PREFIXES}
    last: dict[str, int] = {}
    for level, layer, _ in parts.values():
        last[level] = max(last.get(level, 0), _number(layer))
    return {
        LOSS_PREFIXES[level] + LOSS_TERMS[term] + (f"_{_number(layer)}" if _number(layer) < last[level] else ""): value
        for value, (level, layer, term) in zip((losses[name] for name in parts), parts.values(), strict=True)
    }


def _number(layer: str) -> int:
    """``layer3`` -> 3."""
    return int(layer.removeprefix("layer"))


def as_targets(labels: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[ClipTarget, ...]:
    """labels (G,) and masks (G, T, H, W) of each clip, at the padded size, as targets."""
    return tuple(
        ClipTarget(label, torch.arange(len(label)), mask.bool()) for label, mask in zip(labels, masks, strict=True)
    )
