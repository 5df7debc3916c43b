"""CTVIS (arXiv 2307.12616): an image model on every frame, and frames tracked by embeddings of identity.

The embeddings are trained as they are used: an instance is compared with a memory of its earlier looks. With ``sync``
or ``subclips`` there are video queries too: they share the layers of the frame queries and are supervised as tubes in
training. The result is always that of the frame queries.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from syncvis.config import CTVISSettings, RunConfig, TrackerConfig
from syncvis.losses.contrast import carriers, contrast_losses, memory_items
from syncvis.losses.matcher import Matches
from syncvis.losses.views import Points, Supervision
from syncvis.methods.assemble import MaskedParts, build_online_decoder, masked_parts
from syncvis.methods.base import MASKED_PARTS
from syncvis.methods.masked import MaskedMethod
from syncvis.models.decoder import QueryDecoder
from syncvis.models.heads import identity_head
from syncvis.online.association import Tracker, TrackerSettings
from syncvis.online.causal import CausalFrames
from syncvis.online.detections import Detections, confident, distinct
from syncvis.online.memory import SimilarityGuided
from syncvis.online.stream import Stream
from syncvis.online.tracking import TrackedFrames
from syncvis.outputs import ClipFeatures, ClipOutput
from syncvis.structures import ClipBatch, ClipTarget, Window


@dataclass(frozen=True)
class IdentifiedOutput(ClipOutput):
    """Predictions, and the embeddings of identity of the frame queries after the last layer, (B, T, Qf, C)."""

    identity: Tensor


class CTVIS(MaskedMethod[QueryDecoder]):
    """Frame queries predict, tracked over the frames.

    Args:
        reid: normalised queries -> embeddings of identity.
        settings: of the method.
        window: frames that are decoded together at test time, where frame queries exchange with video queries.
        seed: of the lengths to which clips are cut.
    """

    parts: ClassVar[Mapping[str, str]] = {"re-id head": r"reid\.", **MASKED_PARTS}

    def __init__(
        self, parts: MaskedParts[QueryDecoder], reid: nn.Module, settings: CTVISSettings, window: int, seed: int
    ) -> None:
        super().__init__(parts)
        self.reid, self.settings, self.window, self.seed = reid, settings, window, seed

    def decode(self, features: ClipFeatures) -> IdentifiedOutput:
        output = self.decoder(features)
        return IdentifiedOutput(output.layers, self.reid(output.final.frame.embeddings))

    def losses(self, batch: ClipBatch, points: Points | None = None, progress: float = 1.0) -> dict[str, Tensor]:
        """See :class:`Method`. In a training (progress below 1) clips may be cut; see ``settings.causal``."""
        if self.settings.causal == "prefix" and progress < 1:
            batch = batch.first(prefix_length(batch.num_frames, progress, self.seed))
        return super().losses(batch, points, progress)

    def clip_losses(
        self, features: ClipFeatures, targets: Sequence[ClipTarget], windows: Sequence[Window], points: Points
    ) -> dict[str, Tensor]:
        output, supervision = self.decode(features), Supervision(targets, points)
        losses, matches = self.criterion.levels(output, supervision, windows)
        clips, instances = supervision.targets.labels.shape
        return losses | self.contrast(output, matches["frame"], (clips, instances))

    def contrast(
        self, output: IdentifiedOutput, matches: Matches, shape: tuple[int, int], from_memory: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses ``reid/layer<last>/contrast`` and ``.../cosine``.

        Args:
            matches: of the frame queries; those after the last layer say which query shows which instance.
            shape: B, G.
            from_memory: see :func:`memory_items`.
        """
        last, identity = len(output.layers) - 1, output.identity
        weights = {"contrast": self.settings.contrast_weight, "cosine": self.settings.cosine_weight}
        with torch.autocast(identity.device.type, enabled=False):
            carrier = carriers(matches, last, identity.shape[1], shape)
            terms = contrast_losses(memory_items(identity.float(), carrier, from_memory, self.settings.compat))
        return {f"reid/layer{last}/{term}": weights[term] * value for term, value in terms.items()}

    def stream(self, stored: torch.dtype | None = None) -> Stream:
        rules = self.settings.tracker
        frames = CausalFrames.of(self.decoder, self.window)
        return TrackedFrames(frames, self.reid, partial(_tracked, rules), build_tracker(rules), stored)


def build(config: RunConfig, num_classes: int) -> CTVIS:
    """Assemble the model that a run config describes."""
    settings = config.method
    assert isinstance(settings, CTVISSettings)
    parts = masked_parts(config, num_classes, build_online_decoder)
    window = settings.window or config.data.frames
    return CTVIS(parts, identity_head(config.model.hidden_dim), settings, window, config.seed)


def build_tracker(rules: TrackerConfig) -> Tracker:
    """The tracker of one video."""
    settings = TrackerSettings(
        rules.match, rules.open_first, rules.open, rules.patience, rules.settled, rules.short, rules.missed
    )
    return Tracker(settings, partial(SimilarityGuided, rules.cache))


def prefix_length(num_frames: int, progress: float, seed: int) -> int:
    """How many frames of its clips a step sees: with probability 1/2 all, else 2 to all, each as likely.

    Processes and passes of a step have the progress of their training in common, and so the length.
    """
    draw = random.Random(f"{seed} {progress}")
    return draw.randint(2, num_frames) if num_frames > 2 and draw.random() < 0.5 else num_frames


def _tracked(rules: TrackerConfig, detections: Detections) -> Detections:
    return distinct(confident(detections, rules.detect), rules.overlap)
