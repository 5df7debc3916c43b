"""Mask2Former-VIS (arXiv 2112.10764) as the base of SyncVIS: offline, the whole clip is decoded at once.

With video queries only it is Mask2Former-VIS; with frame queries, an exchange and sub-clips it is SyncVIS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from syncvis.config import STRUCTURES, Mask2FormerVISSettings, RunConfig
from syncvis.methods.assemble import build_query_decoder, build_stack, masked_parts
from syncvis.methods.masked import MaskedMethod
from syncvis.models.decoder import CascadeDecoder, QueryDecoder, QuerySet
from syncvis.models.stored import FinishedFrames, StoredFrames, joined
from syncvis.models.streamed import StreamedDecoder
from syncvis.online.causal import CausalFrames
from syncvis.online.linking import LinkedFrames
from syncvis.online.stream import Stream, WholeVideo
from syncvis.outputs import ClipFeatures, Queries, VideoTracks


class Mask2FormerVIS(MaskedMethod[QueryDecoder | CascadeDecoder]):
    """Video queries predict; where there are none, frame queries do, linked over the frames."""

    def stream(self, stored: torch.dtype | None = None) -> Stream:
        decoder = self.decoder
        if isinstance(decoder, CascadeDecoder):
            return WholeVideo(partial(_cascade_tracks, decoder), partial(_finished, decoder, stored))
        if "video" not in decoder.query_sets:
            return LinkedFrames(CausalFrames(self.decode, window=1), stored)
        return WholeVideo(self.tracks, partial(StoredFrames.of, dtype=stored))

    def start(self, parts: Sequence[StoredFrames], queries: Queries) -> Queries:
        """Learned contents of the queries -> what they hold before the first layer of a whole video."""
        return queries

    def tracks(self, parts: Sequence[StoredFrames]) -> VideoTracks:
        """Features of a whole video -> a track for every video query."""
        assert isinstance(self.decoder, QueryDecoder)
        video = StreamedDecoder(self.decoder, parts)(partial(self.start, parts))["video"]
        return VideoTracks.of_tubes(video.class_logits, video.mask_embeddings, joined(part.mask for part in parts))


def _finished(decoder: CascadeDecoder, stored: torch.dtype | None, features: ClipFeatures) -> FinishedFrames:
    return FinishedFrames.of(decoder.frames(features).final.frame, features.mask, stored)


def _cascade_tracks(decoder: CascadeDecoder, parts: Sequence[FinishedFrames]) -> VideoTracks:
    *_, state = decoder.states(torch.cat([part.embeddings for part in parts], 1))
    _, class_logits, mask_embeddings = decoder.heads.predict(state)
    return VideoTracks.of_tubes(class_logits, mask_embeddings, joined(part.mask for part in parts))


def build(config: RunConfig, num_classes: int) -> Mask2FormerVIS:
    """Assemble the model that a run config describes."""
    return Mask2FormerVIS(masked_parts(config, num_classes, _build_decoder))


def _build_decoder(config: RunConfig, num_classes: int) -> QueryDecoder | CascadeDecoder:
    assert isinstance(config.method, Mask2FormerVISSettings)
    structure, model = config.method.structure, config.model
    if structure != "cascade":
        return build_query_decoder(config, num_classes, STRUCTURES[structure])
    queries = build_query_decoder(config, num_classes, ["frame"])
    videos = QuerySet(model.decoder.video_queries, model.hidden_dim)
    return CascadeDecoder(queries, videos, build_stack(model, num_classes), model.decoder.time_code)
