"""MinVIS (arXiv 2208.02245): an image model on every frame, and frames linked by their query embeddings.

With ``sync`` or ``subclips`` there are video queries too: they share the layers of the frame queries and are supervised
as tubes in training. The result is always that of the frame queries.
"""

from __future__ import annotations

import torch

from syncvis.config import MinVISSettings, RunConfig
from syncvis.methods.assemble import MaskedParts, build_online_decoder, masked_parts
from syncvis.methods.masked import MaskedMethod
from syncvis.models.decoder import QueryDecoder
from syncvis.online.causal import CausalFrames
from syncvis.online.linking import LinkedFrames
from syncvis.online.stream import Stream


class MinVIS(MaskedMethod[QueryDecoder]):
    """Frame queries predict, linked over the frames.

    Args:
        window: frames that are decoded together at test time, where frame queries exchange with video queries.
    """

    def __init__(self, parts: MaskedParts[QueryDecoder], window: int) -> None:
        super().__init__(parts)
        self.window = window

    def stream(self, stored: torch.dtype | None = None) -> Stream:
        return LinkedFrames(CausalFrames.of(self.decoder, self.window), stored)


def build(config: RunConfig, num_classes: int) -> MinVIS:
    """Assemble the model that a run config describes."""
    assert isinstance(config.method, MinVISSettings)
    return MinVIS(masked_parts(config, num_classes, build_online_decoder), config.method.window or config.data.frames)
