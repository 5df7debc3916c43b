"""Frames linked by their query embeddings (MinVIS, arXiv 2208.02245)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.models.stored import waiting
from syncvis.ops.assignment import linear_assignment
from syncvis.outputs import ClipFeatures, LevelOutput, VideoTracks


def link_frames(embeddings: Tensor, before: Tensor | None = None) -> Tensor:
    """Which query of each frame continues which query of the first one.

    Each frame is assigned to the one before by the largest total cosine of the embeddings.

    Args:
        embeddings: (T, Q, C).
        before: (Q, C) embeddings of the frame before, in the order of the tracks; None: the video begins.

    Returns:
        (T, Q) indices; row 0 of a video counts upwards.
    """
    order: list[Tensor] = []
    last = None if before is None else F.normalize(before, dim=-1)
    for frame in F.normalize(embeddings, dim=-1):
        if last is None:
            order.append(torch.arange(embeddings.shape[1], device=embeddings.device))
        else:
            order.append(linear_assignment(last @ frame.T, maximize=True)[1])
        last = frame[order[-1]]
    return torch.stack(order)


class LinkedFrames:
    """The stream of MinVIS: every query of the first frame starts a track, and class logits are averaged over time.

    Args:
        frames: features of the next frames -> what frame queries predict there.
        stored: type that mask features are rounded to while they wait; None: they stay as they are.
    """

    def __init__(self, frames: Callable[[ClipFeatures], LevelOutput], stored: torch.dtype | None = None) -> None:
        self._frames, self._stored = frames, stored
        self._last: Tensor | None = None
        self._class_logits: list[Tensor] = []
        self._mask_embeddings: list[Tensor] = []
        self._mask_features: list[Tensor] = []

    def step(self, features: ClipFeatures) -> None:
        output = self._frames(features)
        order = link_frames(output.embeddings[0], self._last)[..., None]
        embeddings, logits, codes = (
            torch.take_along_dim(x[0], order, 1)
            for x in (output.embeddings, output.class_logits, output.mask_embeddings)
        )
        self._last = embeddings[-1]
        self._class_logits.append(logits)
        self._mask_embeddings.append(codes)
        self._mask_features += waiting(features.mask, self._stored)

    def finish(self) -> VideoTracks:
        scores = torch.cat(self._class_logits).mean(0).softmax(-1)[:, :-1]
        codes = torch.cat(self._mask_embeddings)
        seen = torch.ones(codes.shape[:2], dtype=torch.bool, device=codes.device)
        return VideoTracks(scores, codes, seen, self._mask_features)
