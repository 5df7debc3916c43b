"""VITA (arXiv 2206.04403): an image model on every frame, and clip queries that read its frame queries; offline.

With ``sync`` there are video queries too: they are decoded beside the frame queries, exchange with them after every
layer, and are supervised as tubes. The temporal module reads the frame queries as the exchange leaves them.

Letters as in :mod:`syncvis.models.temporal`: L branches, D layers of the clip decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from syncvis.config import RunConfig, VITASettings
from syncvis.losses.similarity import similarity_loss
from syncvis.losses.views import Points, Supervision
from syncvis.methods.assemble import MaskedParts, build_query_decoder, masked_parts
from syncvis.methods.base import MASKED_PARTS
from syncvis.methods.masked import MaskedMethod
from syncvis.models.decoder import QueryDecoder
from syncvis.models.heads import Heads
from syncvis.models.pixel_decoder import PixelFeatures
from syncvis.models.stored import FinishedFrames, StoredFrames, joined
from syncvis.models.streamed import StreamedDecoder
from syncvis.models.temporal import ClipDecoder, FrameQueryEncoder, TemporalModule, TemporalOutput
from syncvis.online.stream import Stream, WholeVideo
from syncvis.outputs import ClipFeatures, ClipOutput, LevelOutput, VideoTracks
from syncvis.structures import ClipTarget, Window, fold, unfold


@dataclass(frozen=True)
class VITAOutput(ClipOutput):
    """The predictions of the frame decoder, and those of the clip queries on top.

    Attributes:
        temporal: what the temporal module computes of the L*B clips.
        clips: what the clip queries predict; output ``d * L + l`` is branch l after layer d of the clip decoder.
    """

    temporal: TemporalOutput
    clips: tuple[LevelOutput, ...]

    @property
    def branches(self) -> int:
        return len(self.clips) // len(self.temporal.embeddings)

    def named(self) -> dict[str, LevelOutput]:
        """Also ``temporal<d>.branch<l>``."""
        places = (divmod(index, self.branches) for index in range(len(self.clips)))
        return super().named() | {
            f"temporal{layer}.branch{branch}": o for (layer, branch), o in zip(places, self.clips, strict=True)
        }


class VITA(MaskedMethod[QueryDecoder]):
    """A frame decoder and the temporal module.

    Args:
        branches: L, how many of the frame decoder's last layers get a temporal pass of their own in training.
        similarity_weight: of the similarity loss.
        final: whose prediction is the result, that of the "clip" queries or of the "video" queries.
        compat: how sure a mask is is measured before its last resize, as published.
    """

    parts: ClassVar[Mapping[str, str]] = {"temporal module": r"temporal\.", **MASKED_PARTS}

    def __init__(
        self,
        parts: MaskedParts[QueryDecoder],
        temporal: TemporalModule,
        branches: int,
        similarity_weight: float,
        final: str,
        compat: bool,
    ) -> None:
        super().__init__(parts)
        self.temporal = temporal
        self.branches, self.similarity_weight = branches, similarity_weight
        self.final, self.compat = final, compat

    def features(self, pixels: PixelFeatures, num_frames: int) -> ClipFeatures:
        assert pixels.raw is not None
        levels = [unfold(x, num_frames) for x in pixels.levels]
        clip_mask = unfold(self.temporal.mask_features(pixels.raw), num_frames)
        return ClipFeatures.of(levels, unfold(pixels.mask, num_frames), clip_mask, pixels.guides)

    def decode(self, features: ClipFeatures) -> VITAOutput:
        """A training clip: every branch, and plain windows in the temporal encoder."""
        return self._decode(features, self.branches, shift=False)

    def decode_video(self, features: ClipFeatures) -> VITAOutput:
        """A whole video at test time: the last layer of the frame decoder only, and shifted windows."""
        return self._decode(features, 1, shift=True)

    def _decode(self, features: ClipFeatures, branches: int, shift: bool) -> VITAOutput:
        output = self.decoder(features)
        frames = torch.stack([o.embeddings for o in output.of("frame")[-branches:]])
        temporal: TemporalOutput = self.temporal(fold(frames), shift)
        assert features.clip_mask is not None
        clips = [
            LevelOutput("video", embeddings, logits, codes, features.clip_mask, None)
            for layer in zip(temporal.embeddings, temporal.class_logits, temporal.mask_embeddings, strict=True)
            for embeddings, logits, codes in zip(*(x.chunk(branches) for x in layer), strict=True)
        ]
        return VITAOutput(output.layers, temporal, tuple(clips))

    def clip_losses(
        self, features: ClipFeatures, targets: Sequence[ClipTarget], windows: Sequence[Window], points: Points
    ) -> dict[str, Tensor]:
        """Those of :class:`MaskedMethod`, the same of the clip queries as ``temporal/...``, and their similarity."""
        output, supervision = self.decode(features), Supervision(targets, points)
        views = self.criterion.views(output, supervision, windows)
        views["temporal"] = supervision.of_clips(output.clips, windows, "temporal", output.branches)
        losses, matches = self.criterion.together(views)
        branches, last = output.branches, len(output.clips) // output.branches - 1
        similarity = similarity_loss(
            output.temporal.frame_similarity.unflatten(0, (branches, -1)),
            output.temporal.clip_similarity.unflatten(0, (branches, -1)),
            matches["frame"].of_whole_clips(len(output.layers) - branches),
            matches["temporal"].of_whole_clips(last * branches),
        )
        return losses | {f"temporal/layer{last}/similarity": self.similarity_weight * similarity}

    def stream(self, stored: torch.dtype | None = None) -> Stream:
        if self.decoder.exchanges:
            return WholeVideo(self._read_frames, partial(StoredFrames.of, dtype=stored, clip=self.final == "clip"))
        return WholeVideo(self._read_finished, partial(self._finish, stored=stored))

    def tracks(self, features: ClipFeatures) -> VideoTracks:
        """Features of a whole video, a batch of one -> a track for every clip or video query."""
        stream = self.stream()
        stream.step(features)
        return stream.finish()

    def _finish(self, features: ClipFeatures, stored: torch.dtype | None) -> FinishedFrames:
        """Frame queries that exchange nothing need no other frame."""
        assert features.clip_mask is not None
        frame = self.decoder(features, levels=["frame"]).final.frame
        return FinishedFrames.of(frame, features.clip_mask, stored)

    def _read_finished(self, parts: Sequence[FinishedFrames]) -> VideoTracks:
        frames = torch.cat([part.embeddings for part in parts], 1)
        return self._clip_tracks(frames, joined(part.mask for part in parts))

    def _read_frames(self, parts: Sequence[StoredFrames]) -> VideoTracks:
        predicted, mask = StreamedDecoder(self.decoder, parts)(), joined(part.mask for part in parts)
        if self.final == "clip":
            return self._clip_tracks(predicted["frame"].embeddings, mask)
        video = predicted["video"]
        return VideoTracks.of_tubes(video.class_logits, video.mask_embeddings, mask, self.compat)

    def _clip_tracks(self, frames: Tensor, mask: list[Tensor]) -> VideoTracks:
        """Normalised frame queries (1, T, Qf, C) -> a track for every clip query."""
        temporal: TemporalOutput = self.temporal(frames, shift=True)
        return VideoTracks.of_tubes(temporal.class_logits[-1], temporal.mask_embeddings[-1], mask, self.compat)


def build(config: RunConfig, num_classes: int) -> VITA:
    """Assemble the model that a run config describes."""
    method = config.method
    assert isinstance(method, VITASettings)
    temporal = build_temporal(config, method, num_classes)  # first, so that its weights depend on no other part
    parts = masked_parts(config, num_classes, _build_decoder)
    return VITA(parts, temporal, method.branches, method.similarity_weight, method.final, method.compat)


def build_temporal(config: RunConfig, method: VITASettings, num_classes: int) -> TemporalModule:
    model = config.model
    sizes = (model.hidden_dim, method.heads, method.ffn_dim)
    encoder = FrameQueryEncoder(*sizes, method.encoder_layers, method.window, method.compat)
    decoder = ClipDecoder(*sizes, method.decoder_layers, method.clip_queries, model.decoder.frame_queries)
    heads = Heads(model.hidden_dim, model.mask_dim, num_classes)
    return TemporalModule(encoder, decoder, heads, model.hidden_dim, model.mask_dim)


def _build_decoder(config: RunConfig, num_classes: int) -> QueryDecoder:
    return build_query_decoder(config, num_classes, ["frame"] if config.sync is None else ["frame", "video"])
