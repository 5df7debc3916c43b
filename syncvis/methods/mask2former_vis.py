"""Mask2Former-VIS (arXiv 2112.10764) as the base of SyncVIS: offline, the whole clip is decoded at once.

With video queries only it is Mask2Former-VIS; with frame queries, an exchange and sub-clips it is SyncVIS.
"""

from __future__ import annotations

from syncvis.config import STRUCTURES, Mask2FormerVISSettings, RunConfig
from syncvis.methods.assemble import build_query_decoder, build_stack, masked_parts
from syncvis.methods.masked import MaskedMethod
from syncvis.models.decoder import CascadeDecoder, QueryDecoder, QuerySet
from syncvis.online.causal import CausalFrames
from syncvis.online.linking import LinkedFrames
from syncvis.online.stream import Stream, WholeVideo
from syncvis.outputs import ClipFeatures, VideoTracks


class Mask2FormerVIS(MaskedMethod[QueryDecoder | CascadeDecoder]):
    """Video queries predict; where there are none, frame queries do, linked over the frames."""

    def stream(self) -> Stream:
        decoder = self.decoder
        if isinstance(decoder, QueryDecoder) and "video" not in decoder.query_sets:
            return LinkedFrames(CausalFrames(self.decode, window=1))
        return WholeVideo(self.tracks)

    def tracks(self, features: ClipFeatures) -> VideoTracks:
        """Features of a whole video, a batch of one -> a track for every video query."""
        video = self.decode_video(features).final.video
        assert video is not None
        return VideoTracks.of_tubes(video)


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
