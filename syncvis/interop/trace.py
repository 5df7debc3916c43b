"""Everything that a model computes on the way, to compare it with a published implementation number by number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from syncvis.data.loader import pad_images
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.outputs import ClipOutput
from syncvis.structures import ClipBatch, ClipTarget, fold

SIZE_DIVISOR = 32

LOSS_TERMS = {"class": "ce", "mask": "mask", "dice": "dice"}
"""Our terms -> those of detectron2's Mask2Former, there after ``loss_``."""


@dataclass(frozen=True)
class Trace:
    """The intermediate results of one pass, B clips of T frames.

    Attributes:
        backbone: four maps (B*T, C, h, w), fine to coarse.
        levels: three maps of the pixel decoder (B, T, C, h, w), coarse to fine.
        mask_features: (B, T, C, h, w).
        class_logits: of all L + 1 outputs, before the first layer first: (B, Q, K+1), of frame queries (B, T, Q, K+1).
        mask_logits: of all L + 1 outputs: (B, Q, T, h, w), of frame queries (B, T, Q, h, w).
        output: what the criterion reads.
    """

    backbone: tuple[Tensor, ...]
    levels: tuple[Tensor, ...]
    mask_features: Tensor
    class_logits: tuple[Tensor, ...]
    mask_logits: tuple[Tensor, ...]
    output: ClipOutput


def clip_batch(frames: Tensor, targets: Sequence[ClipTarget] = ()) -> ClipBatch:
    """Frames (B, T, 3, H, W), RGB in 0..255, as the batch that our models read, padded to multiples of 32.

    Masks of the targets must have the padded size already.
    """
    images, valid = pad_images(list(frames.float() / 255), SIZE_DIVISOR)
    return ClipBatch(images, valid, tuple(targets))


def trace(model: Mask2FormerVIS, frames: Tensor) -> Trace:
    """Run a model with one level of queries on frames (B, T, 3, H, W), RGB in 0..255; gradients flow."""
    batch = clip_batch(frames)
    maps = model.backbone(fold(model.normalise(batch.images, batch.valid)))
    features = model.encode(batch.images, batch.valid)
    output = model.decode(features)
    predictions = [level for layer in output.layers for level in layer.levels()]
    return Trace(
        tuple(maps),
        features.levels,
        features.mask,
        tuple(p.class_logits for p in predictions),
        tuple(p.mask_logits for p in predictions),
        output,
    )


def official_names(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of the whole clip, or of frame queries, under detectron2's names: ``loss_ce``, ``loss_mask_0``, ...

    There, the last output has no number and output i, before layer i + 1, has the number i.
    """
    found = {}
    for name, value in losses.items():
        matched = re.fullmatch(r"(?:clip|frame)/layer(\d+)/(\w+)", name)
        if matched:
            found[int(matched[1]), LOSS_TERMS[matched[2]]] = value
    last = max((layer for layer, _ in found), default=0)
    return {f"loss_{term}" + (f"_{layer}" if layer < last else ""): value for (layer, term), value in found.items()}


def as_targets(labels: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[ClipTarget, ...]:
    """labels (G,) and masks (G, T, H, W) of each clip, at the padded size, as targets."""
    return tuple(
        ClipTarget(label, torch.arange(len(label)), mask.bool()) for label, mask in zip(labels, masks, strict=True)
    )
