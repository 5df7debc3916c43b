"""Predictions as the criterion sees them: the outputs of one query set on clips, next to what they are to find.

Frame queries on B clips of T frames are B*T clips of one frame; a sub-clip is a window of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from syncvis.losses import mask_losses
from syncvis.losses.mask_losses import FrameSums
from syncvis.losses.points import PointSource
from syncvis.ops.linear import linear
from syncvis.ops.points import sample_masks, sample_points
from syncvis.outputs import LevelOutput
from syncvis.structures import ClipTarget, PaddedTargets, Window, fold, unfold

Points = PointSource | Mapping[str, PointSource]
"""Where matching and losses look: one source for all views, or one for each by its name."""


@dataclass(frozen=True)
class View:
    """The O outputs of one query set on M clips, with what they are to find.

    Attributes:
        class_logits: (O, M, 1, Q, K+1), or (O, M, W, Q, K+1) if each window has its own.
        mask_embeddings: (O, M, 1, Q, C), or (O, M, T, Q, C) if each frame has its own.
        features: (M, T, C, h, w) mask features.
        samples: one for every output, or a single one for all.
        windows: the first one is the whole clip; their names are those of the losses.
        points: of the mask losses.
        branches: outputs that count as one: output ``i * branches + j`` is branch j of layer i, and the losses of a
            layer are the mean over its branches.
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    features: Tensor
    targets: PaddedTargets
    samples: Sequence[MatchingSample]
    windows: Sequence[Window]
    points: PointSource
    branches: int = 1

    @cached_property
    def inside(self) -> Tensor:
        """(T, W) indicator of the frames of each window."""
        return mask_losses.frames_inside([w.frames for w in self.windows], self.features.shape[1], self.features)

    @cached_property
    def present(self) -> Tensor:
        """(M, W, G): instances that a window has; the whole clip has all of its own, even one without a pixel."""
        seen = torch.einsum("mgt,tw->mwg", self.targets.present.to(self.inside.dtype), self.inside) > 0
        whole = self.inside.all(0)
        return seen | (whole[:, None] & self.targets.real[:, None])

    def sample(self, output: int) -> MatchingSample:
        """What the matching of an output looks at."""
        return self.samples[min(output, len(self.samples) - 1)]


class Supervision:
    """The targets of B clips, and the points at which predictions are compared with them.

    Views with the same source of points share its matching points, so one draw serves all; with the same mask features
    too, they share what is sampled there.
    """

    def __init__(self, targets: Sequence[ClipTarget], points: Points) -> None:
        self.targets, self._points = PaddedTargets.of(targets), points
        self._drawn: dict[int, Sequence[Tensor]] = {}
        self._sampled: list[tuple[PointSource, Tensor, list[MatchingSample]]] = []

    def of_frames(self, outputs: Sequence[LevelOutput], factor: float) -> View:
        """View "frame" of frame queries: each frame by itself, losses ``frame/...`` times ``factor``."""
        logits, codes = _stacked([fold(o.class_logits) for o in outputs], [fold(o.mask_embeddings) for o in outputs])
        features = outputs[0].mask_features
        samples = [sample.as_frames() for sample in self._samples("frame", features)]
        windows = [Window("frame", (0,), factor)]
        targets = self.targets.as_frames()
        return View(logits, codes, fold(features.float())[:, None], targets, samples, windows, self._source("frame"))

    def of_clips(
        self, outputs: Sequence[LevelOutput], windows: Sequence[Window], name: str = "clip", branches: int = 1
    ) -> View:
        """View of queries that predict tubes.

        Args:
            windows: the first one is the whole clip.
            name: of the view, and of the whole clip's losses; other windows of a view that is not "clip" are called
                ``<name>-<window>``.
            branches: see :class:`View`.
        """
        logits, codes = _stacked([o.class_logits for o in outputs], [o.mask_embeddings for o in outputs])
        features = outputs[0].mask_features
        samples, source = self._samples(name, features), self._source(name)
        if name != "clip":
            windows = [replace(w, name=name if w.name == "clip" else f"{name}-{w.name}") for w in windows]
        return View(logits, codes, features.float(), self.targets, samples, windows, source, branches)

    def _source(self, name: str) -> PointSource:
        return self._points[name] if isinstance(self._points, Mapping) else self._points

    def _samples(self, name: str, features: Tensor) -> list[MatchingSample]:
        source = self._source(name)
        for known, looked_at, samples in self._sampled:
            if known is source and looked_at is features:
                return samples
        if id(source) not in self._drawn:
            self._drawn[id(source)] = source.matching(len(features), features.device)
        drawn = self._drawn[id(source)]
        samples = [MatchingSample.of(features.float(), self.targets, points) for points in drawn]
        self._sampled.append((source, features, samples))
        return samples


def _stacked(class_logits: Sequence[Tensor], mask_embeddings: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Predictions of M clips, (M, Q, ...) for the clip or (M, N, Q, ...) for each of N parts -> (O, M, 1|N, Q, ...)."""
    logits, codes = (torch.stack(list(x)).float() for x in (class_logits, mask_embeddings))
    return (logits[:, :, None] if logits.ndim == 4 else logits), (codes[:, :, None] if codes.ndim == 4 else codes)


@dataclass(frozen=True)
class MatchingSample:
    """Mask features and targets of clips at the points of their matching.

    Attributes:
        features: (M, T, P, C).
        targets: (M, T, G, P).
    """

    features: Tensor
    targets: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, features: Tensor, targets: PaddedTargets, points: Tensor) -> MatchingSample:
        """features (B, T, C, h, w), points (B, P, 2): the same in every frame of a clip, or (B*T, P, 2)."""
        masks = targets.masks.transpose(1, 2)
        num_frames, num_instances = masks.shape[1:3]
        by_frame = points.repeat_interleave(len(masks) * num_frames // len(points), 0)
        sampled = unfold(sample_points(fold(features), by_frame).mT.contiguous(), num_frames)
        which = torch.arange(masks[..., 0, 0].numel(), device=points.device)
        wanted = sample_masks(masks.flatten(0, 2), which, by_frame.repeat_interleave(num_instances, 0))
        return cls(sampled, wanted.view(*masks.shape[:3], by_frame.shape[1]))

    def as_frames(self) -> MatchingSample:
        """B clips of T frames -> B*T clips of one frame."""
        return MatchingSample(fold(self.features)[:, None], fold(self.targets)[:, None])

    def sums(self, mask_embeddings: Tensor) -> FrameSums:
        """Mask embeddings (M, 1|T, Q, C) -> sums of every query with every instance, (M, Q, G, T).

        Frame by frame: the logits of all queries at all points are the largest tensor of the losses.
        """
        by_frame = mask_embeddings.expand(-1, self.features.shape[1], -1, -1)
        clips = [
            FrameSums.stack(
                [mask_losses.all_pairs(linear(x, e), y) for x, y, e in zip(frames, wanted, embeddings, strict=True)]
            )
            for frames, wanted, embeddings in zip(self.features, self.targets, by_frame, strict=True)
        ]
        return FrameSums.stack(clips, dim=0)
