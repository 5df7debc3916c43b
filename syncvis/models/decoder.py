"""The query decoder: frame and video queries go through masked-attention layers side by side.

One layer is Mask2Former's (masked cross-attention, self-attention, FFN, each post-norm). Frame queries read the cells
of their own frame, video queries the cells of all frames. After each layer a synchronisation (any ``sync(queries,
output) -> queries``) may exchange the two sets; ``syncvis.sync.module`` has it, :func:`no_sync` is the absent one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syncvis.models.attention import Attention, FeedForward
from syncvis.models.heads import Heads
from syncvis.models.pixel_decoder import NUM_LEVELS
from syncvis.models.position import spatial_code, time_code
from syncvis.outputs import ClipFeatures, ClipOutput, LayerOutput, LevelOutput, Queries
from syncvis.structures import Level, fold, unfold

Sync = Callable[[Queries, LayerOutput], Queries]
Start = Callable[[Queries, ClipFeatures], Queries]
"""Learned contents of the queries -> what the first layer starts with."""


def no_sync(queries: Queries, output: LayerOutput) -> Queries:
    """No exchange between the levels."""
    return queries


def exchanged(sync: Sync, queries: Queries, predict: Callable[[Queries], LayerOutput]) -> tuple[Queries, LayerOutput]:
    """Let the levels read each other by what the heads predict of them; gives what is predicted afterwards too."""
    output = predict(queries)
    synced = sync(queries, output)
    return (queries, output) if synced is queries else (synced, predict(synced))


@dataclass(frozen=True)
class Tokens:
    """What queries read: keys (with position) and values, both (B, T, S, C), or (M, S, C) for M readers."""

    keys: Tensor
    values: Tensor

    def of_frames(self) -> Tokens:
        """What frame queries read, (B*T, S, C)."""
        return Tokens(fold(self.keys), fold(self.values))

    def of_videos(self, time_keys: Tensor | None) -> Tokens:
        """What video queries read, (B, T*S, C); ``time_keys`` (T, C) tell the frames apart."""
        keys = self.keys if time_keys is None else self.keys + time_keys[:, None]
        return Tokens(keys.flatten(1, 2), self.values.flatten(1, 2))


class DecoderLayer(nn.Module):
    """Masked cross-attention -> self-attention -> FFN, each with residual and post-norm."""

    recomputable: ClassVar[bool] = True

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.cross_attention = Attention(dim, heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, heads)
        self.self_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim)

    def project(self, tokens: Tokens) -> Tokens:
        """Tokens -> the keys and values of the cross-attention, of the same shapes."""
        return Tokens(self.cross_attention.key(tokens.keys), self.cross_attention.value(tokens.values))

    def project_time(self, code: Tensor) -> Tensor:
        """What a code (T, C) adds to the projected keys of its frame, (T, C)."""
        weight = self.cross_attention.key.weight
        return F.linear(code.to(weight.dtype), weight)

    def forward(self, queries: Tensor, position: Tensor, projected: Tokens, visible: Tensor | None = None) -> Tensor:
        """queries (M, Q, C), position (Q, C), projected tokens (M, S, C), visible (M, Q, S) bool -> (M, Q, C)."""
        read = self.cross_attention.attend(queries + position, projected.keys, projected.values, visible)
        return self.digest(queries, position, read)

    def digest(self, queries: Tensor, position: Tensor, read: Tensor) -> Tensor:
        """What follows the cross-attention: queries and what they read of the tokens (M, Q, C) -> (M, Q, C)."""
        queries = self.cross_norm(queries + read)
        placed = queries + position
        queries = self.self_norm(queries + self.self_attention(placed, placed, queries))
        return self.ffn(queries)


class DecoderStack(nn.Module):
    """The weights that a query set uses: layers, heads and the embedding of the three feature levels."""

    def __init__(self, layers: Sequence[DecoderLayer], heads: Heads, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.heads = heads
        self.level_embed = nn.Embedding(NUM_LEVELS, dim)

    def layer(self, index: int) -> DecoderLayer:
        found = self.layers[index]
        assert isinstance(found, DecoderLayer)
        return found


class QuerySet(nn.Module):
    """Learned content and position of Q queries."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.content = nn.Embedding(num_queries, dim)
        self.position = nn.Embedding(num_queries, dim)


class QueryDecoder(nn.Module):
    """Decode the query sets that there are, layer by layer, side by side.

    Args:
        query_sets: by level; one or both of "frame" and "video".
        stacks: the stack of each level; the same object for both levels shares the weights.
        syncs: one exchange per layer.
        time_code: add the code of the frame's place in the clip to the keys of video queries.
    """

    def __init__(
        self,
        query_sets: Mapping[Level, QuerySet],
        stacks: Mapping[Level, DecoderStack],
        syncs: Sequence[Sync],
        time_code: bool,
    ) -> None:
        super().__init__()
        self.query_sets = nn.ModuleDict({str(level): query_set for level, query_set in query_sets.items()})
        self.stacks = nn.ModuleList(dict.fromkeys(stacks[level] for level in query_sets))
        self.sync = nn.ModuleList(dict.fromkeys(s for s in syncs if isinstance(s, nn.Module)))
        self.query_set_of = dict(query_sets)
        self.stack_of = {level: stacks[level] for level in query_sets}
        self._syncs = tuple(syncs)
        self.time_code = time_code

    @property
    def syncs(self) -> tuple[Sync, ...]:
        """The exchange after each layer."""
        return self._syncs

    @property
    def exchanges(self) -> bool:
        """Whether frame queries ever see what video queries, and so other frames, hold."""
        return len(self.sync) > 0

    def forward(
        self, features: ClipFeatures, start: Start | None = None, levels: Sequence[Level] | None = None
    ) -> ClipOutput:
        """ClipFeatures -> the outputs before the first layer and after each.

        Args:
            start: changes the contents of the queries before the first layer.
            levels: decode only these, of a decoder without exchanges; None: all.
        """
        tokens = {stack: _tokens(features, stack.level_embed.weight) for stack in self.stack_of.values()}
        time = self.time(features.num_frames, features.levels[0].device)
        queries = self.contents(len(features.mask), features.num_frames, levels)
        queries = queries if start is None else start(queries, features)
        outputs = [self._predict(queries, features)]
        for index, sync in enumerate(self._syncs):
            scale = index % NUM_LEVELS
            projected = self.project(index, {stack: maps[scale] for stack, maps in tokens.items()}, time)
            queries = self._layer(index, queries, outputs[-1], projected, features.guides[scale])
            queries, output = exchanged(sync, queries, lambda states: self._predict(states, features))
            outputs.append(output)
        return ClipOutput(tuple(outputs))

    def contents(self, num_clips: int, num_frames: int, levels: Sequence[Level] | None = None) -> Queries:
        """What the queries hold at first, of all levels or of some."""
        batch: dict[Level, tuple[int, ...]] = {"frame": (num_clips, num_frames), "video": (num_clips,)}
        found = {level: self.query_set_of[level].content.weight for level in levels or self.query_set_of}
        return Queries(**{level: content.expand(*batch[level], -1, -1) for level, content in found.items()})

    def time(self, num_frames: int, device: torch.device) -> Tensor | None:
        """The code of each frame's place, (T, C), which the keys of video queries carry; None if they carry none."""
        dim = next(iter(self.query_set_of.values())).content.weight.shape[1]
        return time_code(num_frames, dim, device) if self.time_code else None

    def project(self, index: int, tokens: Mapping[DecoderStack, Tokens], time: Tensor | None) -> dict[Level, Tokens]:
        """What the queries of each level read in a layer; levels that share weights share the projection.

        Args:
            tokens: of T frames, by the stack whose embedding of the scale they carry.
            time: (T, C), see :meth:`time`.
        """
        projected = {stack: stack.layer(index).project(here) for stack, here in tokens.items()}
        found: dict[Level, Tokens] = {}
        for level, stack in self.stack_of.items():
            here = projected[stack]
            time_keys = None if time is None or level == "frame" else stack.layer(index).project_time(time)
            found[level] = here.of_frames() if level == "frame" else here.of_videos(time_keys)
        return found

    def _layer(
        self,
        index: int,
        queries: Queries,
        output: LayerOutput,
        projected: Mapping[Level, Tokens],
        guide: Tensor,
    ) -> Queries:
        """Projected tokens and guide (B, T, C, h, w) are those of the scale that the layer reads."""
        states, before = {}, queries.levels()
        for prediction in output.levels():
            level = prediction.level
            state = before[level]
            layer, position = self.stack_of[level].layer(index), self.query_set_of[level].position.weight
            flat = fold(state) if level == "frame" else state
            flat = layer(flat, position, projected[level], _visible(prediction, guide))
            states[level] = unfold(flat, guide.shape[1]) if level == "frame" else flat
        return Queries(**states)

    def _predict(self, queries: Queries, features: ClipFeatures) -> LayerOutput:
        states = queries.levels().items()
        return LayerOutput(**{level: self.stack_of[level].heads(level, state, features) for level, state in states})


class CascadeDecoder(nn.Module):
    """Frame queries first; video queries then read the finished frame queries instead of pixels (VITA's arrangement).

    Args:
        frames: a decoder with frame queries only.
        query_set: the video queries.
        stack: their layers and heads.
        time_code: add the code of the frame's place in the clip to the keys.
    """

    def __init__(self, frames: QueryDecoder, query_set: QuerySet, stack: DecoderStack, time_code: bool) -> None:
        super().__init__()
        self.frames, self.query_set = frames, query_set
        self.layers = stack.layers
        self.heads = stack.heads
        self.time_code = time_code

    def forward(self, features: ClipFeatures) -> ClipOutput:
        frame_layers = self.frames(features).layers
        finished = frame_layers[-1].frame
        assert finished is not None
        outputs = [
            LayerOutput(frame_layer.frame, self.heads("video", state, features))
            for frame_layer, state in zip(frame_layers, self.states(finished.embeddings), strict=True)
        ]
        return ClipOutput(tuple(outputs))

    def states(self, finished: Tensor) -> Iterator[Tensor]:
        """The video queries (B, Qv, C) before the first layer and after each.

        Args:
            finished: (B, T, Qf, C) normalised frame queries after the last layer.
        """
        num_clips, num_frames, _, dim = finished.shape
        code = time_code(num_frames, dim, finished.device) if self.time_code else None
        tokens = Tokens(finished, finished).of_videos(code)
        state = self.query_set.content.weight.expand(num_clips, -1, -1)
        yield state
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            state = layer(state, self.query_set.position.weight, layer.project(tokens))
            yield state


def _tokens(features: ClipFeatures, level_embed: Tensor) -> list[Tokens]:
    """The feature maps as tokens (B, T, h*w, C), coarse to fine."""
    return [tokens_of(x, embed) for x, embed in zip(features.levels, level_embed, strict=True)]


def tokens_of(x: Tensor, embed: Tensor) -> Tokens:
    """A feature map (B, T, C, h, w) with the embedding (C,) of its scale -> tokens (B, T, h*w, C)."""
    values = x.flatten(3).mT + embed
    code = spatial_code(x.shape[-2], x.shape[-1], x.shape[2], x.device).flatten(0, 1)
    return Tokens(values + code, values)


def _visible(prediction: LevelOutput, guide: Tensor) -> Tensor:
    """Cells (M, Q, S) that a query may read next, at the size of the guide (B, T, C, h, w); see :func:`inside`."""
    return seen_or_all(inside(prediction.level, prediction.mask_embeddings, guide))


def seen_or_all(cells: Tensor) -> Tensor:
    """The cells (M, Q, S) bool of the mask of each query; all cells where it has none."""
    return cells | ~cells.any(-1, keepdim=True)


@torch.no_grad()
def inside(level: Level, mask_embeddings: Tensor, guide: Tensor) -> Tensor:
    """Cells where the masks of queries are foreground.

    (B*T, Qf, h*w) for frame queries, (B, Qv, T*h*w) for video queries, at the size of the guide (B, T, C, h, w).
    """
    cells = guide.flatten(3)
    if level == "frame":
        return fold(mask_embeddings @ cells) >= 0
    return (mask_embeddings[:, None] @ cells).transpose(1, 2).flatten(2) >= 0
