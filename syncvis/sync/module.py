"""Synchronised video-frame modelling: frame and video queries read each other (paper Section 3, Figure 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from syncvis.models.attention import Attention
from syncvis.outputs import LayerOutput, Queries, Readable
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
        self.readers = tuple(exchanges)
        self.exchanges = nn.ModuleDict({str(reader): exchange for reader, exchange in exchanges.items()})
        self.strategy, self.num_selected = strategy, num_selected

    def forward(self, queries: Queries, output: LayerOutput) -> Queries:
        """Queries of both levels and what the heads predict from them -> exchanged queries of the same shapes."""
        selected = self.select(*output.both())
        for reader in self.readers:
            queries = replace(queries, **{reader: self.read(reader, queries, selected[reader])})
        return queries

    def select(self, frame: Readable, video: Readable) -> dict[Level, Tensor]:
        """What the queries of each reading level read in each frame, (B, T, Nk) indices; frames are independent."""
        sides: dict[Level, tuple[Readable, Readable]] = {"video": (frame, video), "frame": (video, frame)}
        return {reader: select(self.strategy, *sides[reader], self.num_selected) for reader in self.readers}

    def read(self, reader: Level, queries: Queries, selected: Tensor) -> Tensor:
        """The queries of one level after they have read the selected ones of the other.

        Video queries read those of every frame, T * Nk references; frame queries of frame t the Nk for frame t.
        """
        frame, video = queries.both()
        if reader == "video":
            return self.exchanges["video"](video, _gather(frame, selected).flatten(1, 2))
        references = _gather(video[:, None].expand(-1, selected.shape[1], -1, -1), selected)
        return unfold(self.exchanges["frame"](fold(frame), fold(references)), selected.shape[1])


def _gather(queries: Tensor, index: Tensor) -> Tensor:
    """queries (B, T, Q, C), index (B, T, R) -> (B, T, R, C)."""
    return torch.take_along_dim(queries, index[..., None], dim=2)
