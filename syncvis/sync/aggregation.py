"""Aggregation strategies: which queries of one level the other level reads (paper Table 7).

A strategy is one pure function ``score(source, reader) -> (B, T, Q)``: how much query q of the source level matters to
the reader level in frame t, told from that frame alone, as a long video is scored a few frames at a time. The Nk best
per frame are read. What both levels offer says
:class:`~syncvis.outputs.Readable`: ``embeddings_by_frame``, ``class_probabilities_by_frame``, ``mask_logits_by_frame``.

A new strategy is a function here and its line in ``config/tables.py``; settings, errors and the tests that hold for all
strategies take the names from there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.outputs import Readable

Strategy = Callable[[Readable, Readable], Tensor]


def class_prediction(source: Readable, reader: Readable) -> Tensor:
    """Sum of the two largest class probabilities, "no object" left out (released code, decoder lines 472-476)."""
    probabilities = source.class_probabilities_by_frame
    return probabilities.topk(min(2, probabilities.shape[-1]), -1).values.sum(-1)


def query_similarity(source: Readable, reader: Readable) -> Tensor:
    """Largest cosine between the embedding and any embedding of the reader (our reading: no formula is published)."""
    own = F.normalize(source.embeddings_by_frame, dim=-1)
    other = F.normalize(reader.embeddings_by_frame, dim=-1)
    return (own @ other.mT).amax(-1)


def mask_similarity(source: Readable, reader: Readable) -> Tensor:
    """Largest soft IoU in that frame between the mask and any mask of the reader (our reading, as above).

    Masks have the size of the finest feature map: at the mask stride, four times the cells would change little.
    """
    own = source.mask_logits_by_frame.sigmoid()
    other = reader.mask_logits_by_frame.sigmoid()
    overlap = own @ other.mT
    union = own.sum(-1)[..., :, None] + other.sum(-1)[..., None, :] - overlap
    return (overlap / union.clamp(min=1e-6)).amax(-1)


@torch.no_grad()
def select(strategy: Strategy, source: Readable, reader: Readable, num_selected: int) -> Tensor:
    """Indices of the Nk queries of the source that score best in each frame, ascending: (B, T, min(Nk, Q)).

    Raises:
        ValueError: The strategy gives something else than a score for each query in each frame.
    """
    score, wanted = strategy(source.detach(), reader.detach()), source.embeddings_by_frame.shape[:3]
    if score.shape != wanted:
        raise ValueError(f"the aggregation strategy gave {tuple(score.shape)}, not (B, T, Q) = {tuple(wanted)}")
    return score.topk(min(num_selected, score.shape[-1]), -1).indices.sort(-1).values
