"""What a method computes from a clip or a video: features, query states, predictions and tracks.

Letters as in :mod:`syncvis.structures`. A tensor of predictions is per frame, (B, T, Q, ...), or per clip, (B, Q, ...),
which its number of dimensions tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.structures import Frames, Level, fold, unfold
from syncvis.transfer import frame_index


@torch.no_grad()
def guides_of(mask: Tensor, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Per-pixel embeddings (N, C, h, w) at the size of each level.

    Resizing and the product with mask embeddings are both linear, so that resized embeddings give the resized masks of
    all queries without the masks themselves.
    """
    return tuple(F.interpolate(mask, x.shape[-2:], mode="bilinear", align_corners=False) for x in levels)


@dataclass(frozen=True)
class ClipFeatures:
    """What ``encode`` gives and ``decode`` reads.

    Attributes:
        levels: feature maps, coarse to fine, each (B, T, C, h, w).
        mask: (B, T, C, h, w) per-pixel embeddings at the mask stride. Decoding only hands them on, so those of a long
            video may lie on another device.
        guides: the per-pixel embeddings at the size of each level, without gradient: they say where masks are.
        clip_mask: like ``mask``, for queries that have a mask map of their own (VITA's clip queries).
    """

    levels: tuple[Tensor, ...]
    mask: Tensor
    guides: tuple[Tensor, ...]
    clip_mask: Tensor | None = None

    @classmethod
    def of(
        cls,
        levels: Sequence[Tensor],
        mask: Tensor,
        clip_mask: Tensor | None = None,
        guides: Sequence[Tensor] | None = None,
    ) -> ClipFeatures:
        """Add the guides; ``guides`` are those of the B*T frames, where they are known."""
        guides = guides_of(fold(mask), levels) if guides is None else guides
        return cls(tuple(levels), mask, tuple(unfold(x, mask.shape[1]) for x in guides), clip_mask)

    @property
    def num_frames(self) -> int:
        return self.mask.shape[1]

    def window(self, frames: Frames) -> ClipFeatures:
        """The features of some frames."""
        index = frame_index(frames, self.mask.device)
        levels, guides = (tuple(x[:, index] for x in maps) for maps in (self.levels, self.guides))
        clip_mask = None if self.clip_mask is None else self.clip_mask[:, index]
        return ClipFeatures(levels, self.mask[:, index], guides, clip_mask)

    def offloaded(self) -> ClipFeatures:
        """The same with the mask features, which nothing reads before the end of a video, in the host's memory."""
        clip_mask = None if self.clip_mask is None else self.clip_mask.cpu()
        return replace(self, mask=self.mask.cpu(), clip_mask=clip_mask)

    @staticmethod
    def concat(parts: Sequence[ClipFeatures]) -> ClipFeatures:
        """Join chunks of the same clips along T."""
        levels = tuple(torch.cat(maps, 1) for maps in zip(*(p.levels for p in parts), strict=True))
        guides = tuple(torch.cat(maps, 1) for maps in zip(*(p.guides for p in parts), strict=True))
        clip_masks = [p.clip_mask for p in parts if p.clip_mask is not None]
        clip_mask = torch.cat(clip_masks, 1) if clip_masks else None
        return ClipFeatures(levels, torch.cat([p.mask for p in parts], 1), guides, clip_mask)


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

    def levels(self) -> dict[Level, Tensor]:
        """The states that there are, by level."""
        sets: dict[Level, Tensor | None] = {"frame": self.frame, "video": self.video}
        return {level: state for level, state in sets.items() if state is not None}


class Readable(Protocol):
    """What a synchronisation reads of one level, whatever method and heads it comes from; all (B, T, Q, ...)."""

    @property
    def embeddings_by_frame(self) -> Tensor:
        """Normalised queries, (B, T, Q, C); those of a whole clip are the same in every frame."""
        ...

    @property
    def class_probabilities_by_frame(self) -> Tensor:
        """(B, T, Q, K), without "no object"."""
        ...

    @property
    def mask_logits_by_frame(self) -> Tensor:
        """Small masks, made when they are asked for: (B, T, Q, S) at the S cells of the finest feature map."""
        ...

    def detach(self) -> Readable:
        """The same values without their graph."""
        ...


@dataclass(frozen=True)
class LevelOutput:
    """What the heads predict for one query set after one layer.

    Attributes:
        level: "frame" or "video".
        embeddings: normalised queries, (B, T, Q, C) or (B, Q, C).
        class_logits: (B, T, Q, K+1) or (B, Q, K+1).
        mask_embeddings: (B, T, Q, C) or (B, Q, C); a tube whose mask is read off anew in each frame has the former.
        mask_features: (B, T, C, h, w), those that these queries have their masks from.
        guide: (B, T, C, h, w), the same at the size of the finest feature map, without gradient; None if no layer
            and no exchange reads the masks.
    """

    level: Level
    embeddings: Tensor
    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor
    guide: Tensor | None

    @cached_property
    def mask_logits(self) -> Tensor:
        """(B, T, Qf, h, w) for frame queries, (B, Qv, T, h, w) for video queries."""
        if self.level == "frame":
            return torch.einsum("btqc,btchw->btqhw", self.mask_embeddings, self.mask_features)
        codes = "bqc" if self.mask_embeddings.ndim == 3 else "btqc"
        return torch.einsum(f"{codes},btchw->bqthw", self.mask_embeddings, self.mask_features)

    def window(self, frames: Frames) -> LevelOutput:
        """The predictions for some frames, of frame queries."""
        index = frame_index(frames, self.mask_features.device)
        return self._changed(lambda x: x[:, index])

    @staticmethod
    def concat(parts: Sequence[LevelOutput]) -> LevelOutput:
        """Join predictions of frame queries for consecutive frames along T; their guides are left behind."""
        return LevelOutput(
            parts[0].level,
            torch.cat([p.embeddings for p in parts], 1),
            torch.cat([p.class_logits for p in parts], 1),
            torch.cat([p.mask_embeddings for p in parts], 1),
            torch.cat([p.mask_features for p in parts], 1),
            None,
        )

    def detach(self) -> LevelOutput:
        """The same values without their graph."""
        return self._changed(Tensor.detach)

    @property
    def mask_embeddings_by_frame(self) -> Tensor:
        """(B, T, Q, C)."""
        return self._by_frame(self.mask_embeddings)

    @property
    def embeddings_by_frame(self) -> Tensor:
        """(B, T, Q, C); video queries are the same in every frame."""
        return self._by_frame(self.embeddings)

    @property
    def class_probabilities_by_frame(self) -> Tensor:
        """(B, T, Q, K), without "no object"."""
        return self._by_frame(self.class_logits).softmax(-1)[..., :-1]

    @property
    def mask_logits_by_frame(self) -> Tensor:
        """Mask logits at the size of the finest feature map, (B, T, Q, h*w)."""
        assert self.guide is not None
        return self.mask_embeddings_by_frame @ self.guide.flatten(3)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> LevelOutput:
        return LevelOutput(
            self.level,
            change(self.embeddings),
            change(self.class_logits),
            change(self.mask_embeddings),
            change(self.mask_features),
            None if self.guide is None else change(self.guide),
        )

    def _by_frame(self, x: Tensor) -> Tensor:
        return x if x.ndim == 4 else x[:, None].expand(-1, self.mask_features.shape[1], -1, -1)


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

    def of(self, level: Level) -> list[LevelOutput]:
        """What one level predicts, layer by layer; empty if the method does not have it."""
        return [output for layer in self.layers for output in layer.levels() if output.level == level]

    def named(self) -> dict[str, LevelOutput]:
        """Every prediction by a name, ``layer<i>.<level>``; a method adds those that it makes besides."""
        return {f"layer{i}.{o.level}": o for i, layer in enumerate(self.layers) for o in layer.levels()}


@dataclass(frozen=True)
class VideoTracks:
    """What a method found in a video of T frames: R candidate tracks.

    Attributes:
        scores: (R, K) probability of each class, in [0, 1].
        mask_embeddings: (T, R, C).
        seen: (T, R) bool, False where a track is absent: it has no mask there.
        mask_features: of each frame (C, h, w), on any device and in any precision; a tensor (T, C, h, w) will do.
        sure_at_input: how sure the masks are is measured at the size of the model's input, not at the size that they
            get in the end.
    """

    scores: Tensor
    mask_embeddings: Tensor
    seen: Tensor
    mask_features: Sequence[Tensor] | Tensor
    sure_at_input: bool = False

    @classmethod
    def of_tubes(
        cls,
        class_logits: Tensor,
        mask_embeddings: Tensor,
        mask_features: Sequence[Tensor],
        sure_at_input: bool = False,
    ) -> VideoTracks:
        """Every query that predicts a tube of the whole video is a track that is always seen.

        Args:
            class_logits: (1, R, K+1).
            mask_embeddings: (1, R, C).
        """
        codes = mask_embeddings.expand(len(mask_features), -1, -1)
        seen = torch.ones(codes.shape[:2], dtype=torch.bool, device=codes.device)
        scores = class_logits[0].softmax(-1)[:, :-1]
        return cls(scores, codes, seen, mask_features, sure_at_input)

    def mask_logits(self, tracks: Tensor, start: int, stop: int) -> Tensor:
        """Masks (r, t, h, w) of some tracks (r,) in the frames from start to stop, on the device of the tracks."""
        codes = self.mask_embeddings[start:stop, tracks]
        features = torch.stack([x.to(codes) for x in self.mask_features[start:stop]])
        return torch.einsum("trc,tchw->rthw", codes, features)
