"""The types that travel through the workbench, and the only place where layouts are folded, unfolded and cut.

Letters, used everywhere:

    B clips        T frames            N = B*T folded     Q queries (Qf frame, Qv video)
    C channels     K classes           L decoder layers   G ground-truth instances
    W windows      H, W pixels         h, w feature cells

A mask of "logits" is before the sigmoid. Class logits have K + 1 entries, the last one is "no object".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.predictions import RLE as RLE
from syncvis.predictions import Track as Track
from syncvis.predictions import VideoPrediction as VideoPrediction

Level = Literal["frame", "video"]
Frames = tuple[int, ...]


def fold(x: Tensor) -> Tensor:
    """(B, T, ...) -> (B*T, ...)."""
    return x.flatten(0, 1)


def unfold(x: Tensor, num_frames: int) -> Tensor:
    """(B*T, ...) -> (B, T, ...)."""
    return x.unflatten(0, (-1, num_frames))


@dataclass(frozen=True)
class Window:
    """Some frames of a clip on which matching and losses run, with the weight of their loss.

    The whole clip is the window of all frames with weight 1; a sub-clip is any other one.
    """

    name: str
    frames: Frames
    weight: float = 1.0

    @classmethod
    def whole(cls, num_frames: int) -> Window:
        return cls("clip", tuple(range(num_frames)))


@dataclass(frozen=True)
class ClipTarget:
    """The instances of one clip.

    Attributes:
        labels: (G,) int64 class of each instance, 0 .. K-1, taken from the track: it holds in every frame.
        ids: (G,) int64 track id.
        masks: (G, T, H, W) bool, empty in frames where the instance is absent.
    """

    labels: Tensor
    ids: Tensor
    masks: Tensor

    @cached_property
    def present(self) -> Tensor:
        """(G, T) bool: whether the instance has a pixel in that frame."""
        return self.masks.flatten(2).any(-1)

    def to(self, device: torch.device) -> ClipTarget:
        return ClipTarget(self.labels.to(device), self.ids.to(device), self.masks.to(device))

    def window(self, frames: Frames) -> ClipTarget:
        """The same instances, seen in some frames only."""
        return replace(self, masks=self.masks[:, list(frames)])


@dataclass(frozen=True)
class PaddedTargets:
    """The targets of B clips in common tensors; rows beyond a clip's own instances are present nowhere.

    Attributes:
        labels: (B, G) int64.
        masks: (B, G, T, H, W) bool.
        present: (B, G, T) bool.
        real: (B, G) bool, False beyond a clip's own instances.
    """

    labels: Tensor
    masks: Tensor
    present: Tensor
    real: Tensor

    @classmethod
    def of(cls, targets: Sequence[ClipTarget]) -> PaddedTargets:
        most = max(len(t.labels) for t in targets)
        first = targets[0]
        labels = first.labels.new_zeros(len(targets), most)
        masks = first.masks.new_zeros(len(targets), most, *first.masks.shape[1:])
        for b, target in enumerate(targets):
            labels[b, : len(target.labels)] = target.labels
            masks[b, : len(target.labels)] = target.masks
        counts = labels.new_tensor([len(t.labels) for t in targets])
        real = torch.arange(most, device=labels.device) < counts[:, None]
        return cls(labels, masks, masks.flatten(3).any(-1), real)

    def as_frames(self) -> PaddedTargets:
        """B clips of T frames -> B*T clips of one frame; an instance belongs to the frames that show it (VITA)."""
        num_frames = self.masks.shape[2]
        labels = self.labels[:, None].expand(-1, num_frames, -1)
        present = fold(self.present.mT)
        return PaddedTargets(fold(labels), fold(self.masks.transpose(1, 2))[:, :, None], present[..., None], present)


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames, padded at the right and bottom to one size.

    Attributes:
        images: (B, T, 3, H, W) float32 RGB in [0, 1], zero in the padding.
        valid: (B, T, H, W) bool, False in the padding.
        targets: B targets at the padded size; empty for inference.
    """

    images: Tensor
    valid: Tensor
    targets: tuple[ClipTarget, ...] = ()

    @property
    def num_frames(self) -> int:
        return self.images.shape[1]

    def to(self, device: torch.device) -> ClipBatch:
        targets = tuple(t.to(device) for t in self.targets)
        return ClipBatch(self.images.to(device), self.valid.to(device), targets)


@dataclass(frozen=True)
class ClipFeatures:
    """What ``encode`` gives and ``decode`` reads.

    Attributes:
        levels: feature maps, coarse to fine, each (B, T, C, h, w).
        mask: (B, T, C, h, w) per-pixel embeddings at the mask stride. Decoding only hands them on, so those of a long
            video may lie on another device.
        guides: the per-pixel embeddings at the size of each level, without gradient: they say where masks are.
    """

    levels: tuple[Tensor, ...]
    mask: Tensor
    guides: tuple[Tensor, ...]

    @classmethod
    def of(cls, levels: Sequence[Tensor], mask: Tensor) -> ClipFeatures:
        """Add the guides. Resizing and the product with mask embeddings are both linear, so that resized embeddings
        give the resized masks of all queries without the masks themselves.
        """
        with torch.no_grad():
            guides = [F.interpolate(fold(mask), x.shape[-2:], mode="bilinear", align_corners=False) for x in levels]
        return cls(tuple(levels), mask, tuple(unfold(x, mask.shape[1]) for x in guides))

    @property
    def num_frames(self) -> int:
        return self.mask.shape[1]

    def window(self, frames: Frames) -> ClipFeatures:
        index = list(frames)
        levels, guides = (tuple(x[:, index] for x in maps) for maps in (self.levels, self.guides))
        return ClipFeatures(levels, self.mask[:, index], guides)

    @staticmethod
    def concat(parts: Sequence[ClipFeatures]) -> ClipFeatures:
        """Join chunks of the same clips along T."""
        levels = tuple(torch.cat(maps, 1) for maps in zip(*(p.levels for p in parts), strict=True))
        guides = tuple(torch.cat(maps, 1) for maps in zip(*(p.guides for p in parts), strict=True))
        return ClipFeatures(levels, torch.cat([p.mask for p in parts], 1), guides)


@dataclass(frozen=True)
class Queries:
    """The states of the two query sets; a level that a method does not have is None.

    Attributes:
        frame: (B, T, Qf, C).
        video: (B, Qv, C).
    """

    frame: Tensor | None = None
    video: Tensor | None = None

    def both(self) -> tuple[Tensor, Tensor]:
        """Frame and video queries of a method that has both."""
        assert self.frame is not None
        assert self.video is not None
        return self.frame, self.video


@dataclass(frozen=True)
class ClipPredictions:
    """Predictions of one layer and level on M clips; mask logits are mask embeddings times the mask features.

    Attributes:
        class_logits: (M, Q, K+1).
        mask_embeddings: (M, Q, C).
    """

    class_logits: Tensor
    mask_embeddings: Tensor


@dataclass(frozen=True)
class LevelOutput:
    """What the heads predict for one query set after one layer.

    Attributes:
        level: "frame" or "video"; it fixes the layout below.
        embeddings: normalised queries, (B, T, Qf, C) or (B, Qv, C).
        class_logits: (B, T, Qf, K+1) or (B, Qv, K+1).
        mask_embeddings: (B, T, Qf, C) or (B, Qv, C).
        mask_features: (B, T, C, h, w), shared by all outputs.
        guide: (B, T, C, h, w), the same at the size of the finest feature map, without gradient.
    """

    level: Level
    embeddings: Tensor
    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor
    guide: Tensor

    @cached_property
    def mask_logits(self) -> Tensor:
        """(B, T, Qf, h, w) for frame queries, (B, Qv, T, h, w) for video queries."""
        equation = "btqc,btchw->btqhw" if self.level == "frame" else "bqc,btchw->bqthw"
        return torch.einsum(equation, self.mask_embeddings, self.mask_features)

    def as_clips(self) -> ClipPredictions:
        """The predictions with every output seen as clips: a frame output of B clips is B*T clips of one frame."""
        if self.level == "frame":
            return ClipPredictions(fold(self.class_logits), fold(self.mask_embeddings))
        return ClipPredictions(self.class_logits, self.mask_embeddings)

    def detach(self) -> LevelOutput:
        """The same values without their graph."""
        tensors = (self.embeddings, self.class_logits, self.mask_embeddings, self.mask_features, self.guide)
        return LevelOutput(self.level, *(x.detach() for x in tensors))

    @property
    def mask_embeddings_by_frame(self) -> Tensor:
        """(B, T, Q, C)."""
        return self._by_frame(self.mask_embeddings)

    @property
    def embeddings_by_frame(self) -> Tensor:
        """(B, T, Q, C); video queries are the same in every frame."""
        return self._by_frame(self.embeddings)

    @property
    def class_logits_by_frame(self) -> Tensor:
        """(B, T, Q, K+1)."""
        return self._by_frame(self.class_logits)

    @property
    def guide_logits_by_frame(self) -> Tensor:
        """Mask logits at the size of the finest feature map, (B, T, Q, h*w)."""
        return self.mask_embeddings_by_frame @ self.guide.flatten(3)

    def _by_frame(self, x: Tensor) -> Tensor:
        return x if self.level == "frame" else x[:, None].expand(-1, self.mask_features.shape[1], -1, -1)


@dataclass(frozen=True)
class LayerOutput:
    """The predictions of both levels after one decoder layer."""

    frame: LevelOutput | None = None
    video: LevelOutput | None = None

    def both(self) -> tuple[LevelOutput, LevelOutput]:
        """Frame and video output of a method that has both."""
        assert self.frame is not None
        assert self.video is not None
        return self.frame, self.video

    def levels(self) -> list[LevelOutput]:
        return [level for level in (self.frame, self.video) if level is not None]


@dataclass(frozen=True)
class ClipOutput:
    """All predictions of one pass: before the first layer and after each, L + 1 in total."""

    layers: tuple[LayerOutput, ...]

    @property
    def final(self) -> LayerOutput:
        return self.layers[-1]

    @property
    def levels(self) -> list[Level]:
        return [output.level for output in self.final.levels()]

    @property
    def mask_features(self) -> Tensor:
        """(B, T, C, h, w), the same for all layers and levels."""
        return self.final.levels()[0].mask_features

    def predictions(self, level: Level) -> list[ClipPredictions]:
        """What one level predicts, layer by layer."""
        return [o.as_clips() for layer in self.layers for o in layer.levels() if o.level == level]
