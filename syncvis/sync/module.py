"""Synchronised video-frame modelling: frame and video queries read each other (paper Section 3, Figure 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from syncvis.models.attention import Attention
from syncvis.outputs import LayerOutput, Queries
from syncvis.structures import Level, fold, unfold
from syncvis.sync.aggregation import Strategy, select

READERS: dict[str, tuple[Level, ...]] = {
    "frame_first": ("video", "frame"),
    "video_first": ("frame", "video"),
    "frame_to_video": ("video",),
    "video_to_frame": ("frame",),
}
"""Who reads, in turn. "frame_first" is the order of the paper's figure: information goes frame -> video first."""


class Exchange(nn.Module):
    """One direction: z <- (1 - momentum) z + momentum * attention(ffn(z), references, references).

    Args:
        attention: multi-head attention, C -> C.
        ffn: applied to the querying side; ``nn.Identity()`` leaves it out.
        momentum: lambda in [0, 1]; 0 leaves z unchanged bit for bit.
    """

    def __init__(self, attention: Attention, ffn: nn.Module, momentum: float) -> None:
        super().__init__()
        self.attention, self.ffn, self.momentum = attention, ffn, momentum

    def forward(self, z: Tensor, references: Tensor) -> Tensor:
        """z (M, Q, C), references (M, R, C) -> (M, Q, C)."""
        read = self.attention(self.ffn(z), references, references)
        return (1 - self.momentum) * z + self.momentum * read


class QuerySync(nn.Module):
    """The exchange of one layer; its weights serve all layers.

    Args:
        exchanges: one per reading level, in the order in which they happen.
        strategy: scores the queries to be read.
        num_selected: Nk, queries read from each frame.
    """

    def __init__(self, exchanges: dict[Level, Exchange], strategy: Strategy, num_selected: int) -> None:
        super().__init__()
        self.exchanges = nn.ModuleDict({str(reader): exchange for reader, exchange in exchanges.items()})
        self.strategy, self.num_selected = strategy, num_selected

    def forward(self, queries: Queries, output: LayerOutput) -> Queries:
        """Queries of both levels and what the heads predict from them -> exchanged queries of the same shapes."""
        for reader in self.exchanges:
            update = self._read_frames if reader == "video" else self._read_video
            queries = replace(queries, **{reader: update(queries, output)})
        return queries

    def _read_frames(self, queries: Queries, output: LayerOutput) -> Tensor:
        """Video queries read the Nk selected queries of every frame: T * Nk references."""
        frame, video = queries.both()
        frame_output, video_output = output.both()
        index = select(self.strategy, frame_output, video_output, self.num_selected)
        return self.exchanges["video"](video, _gather(frame, index).flatten(1, 2))

    def _read_video(self, queries: Queries, output: LayerOutput) -> Tensor:
        """Frame queries of frame t read the Nk video queries selected for frame t."""
        frame, video = queries.both()
        frame_output, video_output = output.both()
        index = select(self.strategy, video_output, frame_output, self.num_selected)
        references = _gather(video[:, None].expand(-1, index.shape[1], -1, -1), index)
        return unfold(self.exchanges["frame"](fold(frame), fold(references)), index.shape[1])


def _gather(queries: Tensor, index: Tensor) -> Tensor:
    """queries (B, T, Q, C), index (B, T, R) -> (B, T, R, C)."""
    return torch.take_along_dim(queries, index[..., None], dim=2)
