"""TMT-VIS (Zheng et al., NeurIPS 2023) on Mask2Former-VIS: the names of the classes enrich the queries of a clip.

Source: the official repository, whose released model cannot be built (its temporal module and its meta-architecture
have one name). Its published number lies between those of Mask2Former-VIS and VITA, so the base is Mask2Former-VIS:
video queries predict, and frame queries are there for an exchange only. Both start from
:mod:`syncvis.models.taxonomy`, once for a clip, in training and at test time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from syncvis.config import STRUCTURES, RunConfig, TMTVISSettings
from syncvis.data.class_text import class_rows
from syncvis.methods.assemble import MaskedParts, build_query_decoder, masked_parts
from syncvis.methods.base import MASKED_PARTS
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.models.decoder import QueryDecoder
from syncvis.models.stored import StoredFrames
from syncvis.models.taxonomy import FixedText, TaxonomyInjection
from syncvis.outputs import ClipFeatures, ClipOutput, Queries


class TMTVIS(Mask2FormerVIS):
    """Mask2Former-VIS whose queries start from what the names of the classes find.

    Args:
        text_file: class-name embeddings that a training reads; None: the text of the taxonomy is learned.
    """

    parts: ClassVar[Mapping[str, str]] = {"taxonomy": r"taxonomy\.", **MASKED_PARTS}

    def __init__(self, parts: MaskedParts[QueryDecoder], taxonomy: TaxonomyInjection, text_file: str | None) -> None:
        super().__init__(parts)
        self.taxonomy, self.text_file = taxonomy, text_file

    def decode(self, features: ClipFeatures) -> ClipOutput:
        output: ClipOutput = self.decoder(features, start=self.taxonomy)
        return output

    def start(self, parts: Sequence[StoredFrames], queries: Queries) -> Queries:
        answers = torch.cat([self.taxonomy.answers(part.level(-1)) for part in parts], 1)
        return self.taxonomy.enrich(queries, answers)

    @torch.no_grad()
    def read_classes(self, names: Sequence[str]) -> None:
        if self.text_file is not None:
            text = self.taxonomy.class_text.weight
            text.copy_(torch.from_numpy(class_rows(self.text_file, names, text.shape[1])))


def build(config: RunConfig, num_classes: int) -> TMTVIS:
    """Assemble the model that a run config describes; a text of a file is NaN until it is read, or loaded."""
    method, model = config.method, config.model
    assert isinstance(method, TMTVISSettings)
    size = (num_classes, method.width)
    text = FixedText(torch.full(size, torch.nan)) if method.class_text else nn.Embedding(*size)
    heads = (model.hidden_dim, model.decoder.heads)
    taxonomy = TaxonomyInjection(text, *heads, method.selected, method.replace)  # first, as it depends on no module
    parts = masked_parts(config, num_classes, _build_decoder)
    return TMTVIS(parts, taxonomy, method.text if method.class_text else None)


def _build_decoder(config: RunConfig, num_classes: int) -> QueryDecoder:
    structure = "video_only" if config.sync is None else "synchronous"
    return build_query_decoder(config, num_classes, STRUCTURES[structure])
