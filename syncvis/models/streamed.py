"""The query decoder on a video of any length: each layer reads the stored frames some at a time.

The numbers are those of :class:`~syncvis.models.decoder.QueryDecoder` on all frames, up to rounding. Of what a layer
needs of the cells (keys, values, which of them are visible) only that of the frames at hand is there at a time; what
lasts is the stored features and the states of the queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from syncvis.models.attention import RunningAttention
from syncvis.models.decoder import DecoderStack, QueryDecoder, Tokens, inside, no_sync, seen_or_all, tokens_of
from syncvis.models.pixel_decoder import NUM_LEVELS
from syncvis.models.stored import StoredFrames
from syncvis.outputs import Queries, Readable
from syncvis.structures import Level, fold, unfold


@runtime_checkable
class SelectsByFrame(Protocol):
    """An exchange whose queries select what they read in each frame by that frame alone; see ``sync.module``."""

    @property
    def readers(self) -> Sequence[Level]: ...

    def select(self, frame: Readable, video: Readable) -> dict[Level, Tensor]: ...

    def read(self, reader: Level, queries: Queries, selected: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Predicted:
    """What the heads predict for one query set: of each frame (1, T, Q, ...), or of the video (1, Q, ...).

    Attributes:
        embeddings: normalised queries (..., Q, C).
        class_logits: (..., Q, K+1).
        mask_embeddings: (..., Q, C).
    """

    embeddings: Tensor
    class_logits: Tensor
    mask_embeddings: Tensor


@dataclass(frozen=True)
class PartOutput:
    """What an exchange may read of the predictions for the frames of a part; see :class:`Readable`."""

    predicted: Predicted
    frames: slice
    part: StoredFrames

    @property
    def embeddings_by_frame(self) -> Tensor:
        return self._by_frame(self.predicted.embeddings)

    @property
    def class_probabilities_by_frame(self) -> Tensor:
        return self._by_frame(self.predicted.class_logits).softmax(-1)[..., :-1]

    @property
    def mask_logits_by_frame(self) -> Tensor:
        return self._by_frame(self.predicted.mask_embeddings) @ self.part.guide(NUM_LEVELS - 1).flatten(3)

    def detach(self) -> PartOutput:
        """Itself: there is no graph at test time."""
        return self

    def _by_frame(self, x: Tensor) -> Tensor:
        return x[:, self.frames] if x.ndim == 4 else x[:, None].expand(-1, self.part.num_frames, -1, -1)


class StreamedDecoder:
    """One pass of a query decoder over one video.

    Args:
        parts: all frames of the video, in order.
    """

    def __init__(self, decoder: QueryDecoder, parts: Sequence[StoredFrames]) -> None:
        self._decoder, self._parts = decoder, parts
        self._num_frames = sum(part.num_frames for part in parts)
        self._time = decoder.time(self._num_frames, parts[0].levels[0].device)

    def __call__(self, start: Callable[[Queries], Queries] = lambda queries: queries) -> dict[Level, Predicted]:
        """What each level predicts after the last layer; ``start`` changes the contents before the first."""
        queries = start(self._decoder.contents(1, self._num_frames))
        predicted = self._predict(queries)
        for index, sync in enumerate(self._decoder.syncs):
            queries = self._layer(index, queries, predicted)
            predicted = self._predict(queries)
            synced = self._exchange(sync, queries, predicted)
            if synced is not queries:
                queries, predicted = synced, self._predict(synced)
        return predicted

    def _each(self) -> Iterator[tuple[StoredFrames, slice]]:
        """The parts, and which frames of the video they are."""
        first = 0
        for part in self._parts:
            yield part, slice(first, first + part.num_frames)
            first += part.num_frames

    def _predict(self, queries: Queries) -> dict[Level, Predicted]:
        stack_of = self._decoder.stack_of
        return {level: Predicted(*stack_of[level].heads.predict(x)) for level, x in queries.levels().items()}

    def _layer(self, index: int, queries: Queries, predicted: dict[Level, Predicted]) -> Queries:
        """Frame queries take a layer part by part; video queries read all parts and then do the rest of it."""
        frames: list[Tensor] = []
        video = None if queries.video is None else self._reading(index, queries.video)
        for part, span in self._each():
            projected, guide = self._project(index, part, span), part.guide(index % NUM_LEVELS)
            if queries.frame is not None:
                cells = inside("frame", predicted["frame"].mask_embeddings[:, span], guide)
                frames.append(self._frames_after(index, queries.frame[:, span], projected["frame"], cells))
            if video is not None:
                cells = inside("video", predicted["video"].mask_embeddings, guide)
                video.read(projected["video"].keys, projected["video"].values, cells)
        return Queries(torch.cat(frames, 1) if frames else None, self._video_after(index, queries.video, video))

    def _project(self, index: int, part: StoredFrames, frames: slice) -> dict[Level, Tokens]:
        scale = index % NUM_LEVELS
        level = part.level(scale)
        stacks: set[DecoderStack] = set(self._decoder.stack_of.values())
        tokens = {stack: tokens_of(level, stack.level_embed.weight[scale]) for stack in stacks}
        return self._decoder.project(index, tokens, None if self._time is None else self._time[frames])

    def _reading(self, index: int, state: Tensor) -> RunningAttention:
        attention = self._decoder.stack_of["video"].layer(index).cross_attention
        return RunningAttention(attention, state + self._position("video"))

    def _frames_after(self, index: int, state: Tensor, projected: Tokens, cells: Tensor) -> Tensor:
        layer = self._decoder.stack_of["frame"].layer(index)
        return unfold(layer(fold(state), self._position("frame"), projected, seen_or_all(cells)), state.shape[1])

    def _video_after(self, index: int, state: Tensor | None, reading: RunningAttention | None) -> Tensor | None:
        if state is None or reading is None:
            return None
        layer = self._decoder.stack_of["video"].layer(index)
        return layer.digest(state, self._position("video"), reading.result())

    def _position(self, level: Level) -> Tensor:
        return self._decoder.query_set_of[level].position.weight

    def _exchange(self, sync: object, queries: Queries, predicted: dict[Level, Predicted]) -> Queries:
        """Let the levels read each other; frame queries do so part by part."""
        if sync is no_sync:
            return queries
        assert isinstance(sync, SelectsByFrame)
        selected = self._select(sync, predicted)
        for reader in sync.readers:
            if reader == "video":
                queries = replace(queries, video=sync.read(reader, queries, selected[reader]))
            else:
                parts = [self._read_video(sync, queries, selected[reader], frames) for _, frames in self._each()]
                queries = replace(queries, frame=torch.cat(parts, 1))
        return queries

    def _select(self, sync: SelectsByFrame, predicted: dict[Level, Predicted]) -> dict[Level, Tensor]:
        found = [
            sync.select(*(PartOutput(predicted[level], frames, part) for level in ("frame", "video")))
            for part, frames in self._each()
        ]
        return {reader: torch.cat([part[reader] for part in found], 1) for reader in sync.readers}

    @staticmethod
    def _read_video(sync: SelectsByFrame, queries: Queries, selected: Tensor, frames: slice) -> Tensor:
        state, video = queries.both()
        return sync.read("frame", Queries(state[:, frames], video), selected[:, frames])
