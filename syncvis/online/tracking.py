"""Frames tracked by embeddings of identity: the stream of CTVIS (arXiv 2307.12616)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from syncvis.models.stored import waiting
from syncvis.online.association import Tracker
from syncvis.online.detections import Detections
from syncvis.outputs import ClipFeatures, LevelOutput, VideoTracks


class TrackedFrames:
    """Tracks begin, are absent and end; class logits are averaged over the frames in which a track is seen.

    Args:
        frames: features of the next frames -> what frame queries predict there.
        identity: normalised queries (..., C) -> embeddings that the tracker compares.
        select: which detections of a frame are tracked, best first.
        tracker: of this video.
        stored: type that mask features are rounded to while they wait; None: they stay as they are.
    """

    def __init__(
        self,
        frames: Callable[[ClipFeatures], LevelOutput],
        identity: Callable[[Tensor], Tensor],
        select: Callable[[Detections], Detections],
        tracker: Tracker,
        stored: torch.dtype | None = None,
    ) -> None:
        self._frames, self._identity, self._select, self._tracker = frames, identity, select, tracker
        self._stored = stored
        self._mask_embeddings: list[Tensor] = []
        self._mask_features: list[Tensor] = []

    def step(self, features: ClipFeatures) -> None:
        output = self._frames(features)
        for t in range(features.num_frames):
            self._tracker.step(self._select(self._detections(output.window((t,)))))
        self._mask_embeddings.append(output.mask_embeddings[0])
        self._mask_features += waiting(features.mask, self._stored)

    def finish(self) -> VideoTracks:
        tracks = self._tracker.tracks()
        codes = torch.cat(self._mask_embeddings)
        carrier, seen = tracks.query.clamp(min=0).to(codes.device), tracks.seen.to(codes.device)
        scores = tracks.classes.to(codes).softmax(-1)[:, :-1]
        codes = torch.take_along_dim(codes, carrier[..., None], 1)
        return VideoTracks(scores, codes, seen, self._mask_features)

    def _detections(self, output: LevelOutput) -> Detections:
        """Every query of one frame."""
        logits = output.class_logits[0, 0]
        scores = logits.softmax(-1)[:, :-1].amax(-1)
        return Detections.of(scores, logits, self._identity(output.embeddings[0, 0]), output.mask_logits[0, 0] > 0)
