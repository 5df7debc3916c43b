"""VITA's temporal module (arXiv 2206.04403): clip queries that read the frame queries of all frames, and no pixel.

Letters besides those of :mod:`syncvis.structures`:

    L branches: the outputs of the last L layers of the frame decoder, each decoded by itself
    M = L*B clips, branch by branch            D layers of the clip decoder            Qc clip queries

Source: VITA, vita/modeling/transformer_decoder/vita.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from syncvis.models.attention import Attention, FeedForward
from syncvis.models.decoder import DecoderLayer, QuerySet, Tokens
from syncvis.models.heads import Heads
from syncvis.ops.linear import TokenLinear


@dataclass(frozen=True)
class TemporalOutput:
    """What the temporal module computes for M clips.

    Attributes:
        tokens: (M, T, Qf, C) encoded frame queries.
        embeddings: (D, M, Qc, C) normalised clip queries after each layer of the clip decoder.
        class_logits: (D, M, Qc, K+1).
        mask_embeddings: (D, M, Qc, C) to be multiplied with the module's own mask features.
        frame_similarity: (M, T, Qf, C) what the similarity loss compares of the frame queries.
        clip_similarity: (M, Qc, C) the same of the clip queries after the last layer.
    """

    tokens: Tensor
    embeddings: Tensor
    class_logits: Tensor
    mask_embeddings: Tensor
    frame_similarity: Tensor
    clip_similarity: Tensor


class EncoderLayer(nn.Module):
    """Self-attention -> FFN, each with residual and post-norm; no position code."""

    recomputable: ClassVar[bool] = True

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(M, S, C) -> the same shape."""
        return self.ffn(self.norm(x + self.attention(x, x, x)))


class FrameQueryEncoder(nn.Module):
    """Frame queries attend each other within windows of consecutive frames.

    Every second layer may shift its windows by half a window, so that neighbouring windows hear of each other. As
    published, a video at test time has that, and a training clip, which is hardly ever longer than a window, has not.

    Args:
        window: W, frames whose queries attend each other; 0: all frames of the clip.
        compat: shift the window of a clip that has a single one too, which cuts it in two halves that training never
            saw (as published).
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int, layers: int, window: int, compat: bool = False) -> None:
        super().__init__()
        self.window, self.compat = window, compat
        self.projection = TokenLinear(dim, dim)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, ffn_dim) for _ in range(layers))

    def forward(self, queries: Tensor, shift: bool = False) -> Tensor:
        """(M, T, Qf, C) -> encoded queries of the same shape; ``shift`` the windows of every second layer."""
        tokens = self.projection(queries)
        num_frames = tokens.shape[1]
        window = self.window or num_frames
        shifts = shift and self.window > 0 and (self.compat or num_frames > window)
        for index, layer in enumerate(self.layers):
            runs = tokens.split(window_runs(num_frames, window, shifted=shifts and index % 2 == 1), 1)
            tokens = torch.cat([_attend(layer, run, min(window, run.shape[1])) for run in runs], 1)
        return tokens


def window_runs(num_frames: int, window: int, shifted: bool) -> list[int]:
    """Frames of the windows of a clip, in order: those of a shorter first one, of all whole ones, and of the rest.

    A window at the end of the clip that is not full is simply shorter. Shifted windows start with half a window,
    rounded down. Runs without frames are left out.
    """
    first = min(window // 2, num_frames) if shifted else 0
    rest = (num_frames - first) % window
    return [run for run in (first, num_frames - first - rest, rest) if run]


def _attend(layer: nn.Module, run: Tensor, window: int) -> Tensor:
    """One layer on a run (M, T, Qf, C) of T / window windows."""
    tokens = run.reshape(-1, window * run.shape[2], run.shape[3])
    attended: Tensor = layer(tokens)
    return attended.view_as(run)


class ClipDecoder(nn.Module):
    """Clip queries read the encoded queries of all frames.

    Keys carry a learned code of the frame query's index, the same in all frames: their order is not seen.

    Args:
        clip_queries: Qc.
        frame_queries: Qf.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int, layers: int, clip_queries: int, frame_queries: int) -> None:
        super().__init__()
        self.queries = QuerySet(clip_queries, dim)
        self.frame_code = nn.Embedding(frame_queries, dim)
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, ffn_dim) for _ in range(layers))

    def forward(self, tokens: Tensor, start: Tensor | None = None) -> Tensor:
        """The clip queries after each layer.

        Args:
            tokens: (M, T, Qf, C) encoded frame queries.
            start: (M, Qc, C) what the clip queries hold before the first layer; None: their learned content.

        Returns:
            (D, M, Qc, C).
        """
        read = Tokens(tokens + self.frame_code.weight, tokens).of_videos(None)
        state = self.queries.content.weight.expand(len(tokens), -1, -1) if start is None else start
        states = []
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            state = layer(state, self.queries.position.weight, layer.project(read))
            states.append(state)
        return torch.stack(states)


class TemporalModule(nn.Module):
    """Encoder, clip decoder, heads, and a mask map of the clip queries' own.

    Args:
        dim: C of all queries, and channels of the pixel decoder's raw map.
        mask_dim: channels of the mask features.
    """

    def __init__(self, encoder: FrameQueryEncoder, decoder: ClipDecoder, heads: Heads, dim: int, mask_dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.heads = encoder, decoder, heads
        self.mask_features = nn.Conv2d(dim, mask_dim, 1)
        self.frame_similarity = TokenLinear(dim, dim)
        self.clip_similarity = TokenLinear(dim, dim)
        nn.init.kaiming_uniform_(self.mask_features.weight, a=1)
        assert self.mask_features.bias is not None
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, queries: Tensor, shift: bool = False) -> TemporalOutput:
        """Normalised frame queries (M, T, Qf, C) -> what the clip queries predict; ``shift`` as in the encoder."""
        tokens = self.encoder(queries, shift)
        embeddings = self.heads.norm(self.decoder(tokens))
        return TemporalOutput(
            tokens,
            embeddings,
            self.heads.class_embed(embeddings),
            self.heads.mask_embed(embeddings),
            self.frame_similarity(tokens),
            self.clip_similarity(embeddings[-1]),
        )
