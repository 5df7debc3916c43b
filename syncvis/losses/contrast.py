"""Contrast of embeddings over the frames of a clip: the loss that IDOL and CTVIS share, and CTVIS' items for it.

Identity is trained as it is used: an anchor is compared with what the tracker would remember of its instance, against
everything that was detected in the frame before (CTVIS, arXiv 2307.12616).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.distributed import mean_over_processes, world_size
from syncvis.losses.matcher import Matches
from syncvis.online.memory import SimilarityGuided
from syncvis.transfer import to_device


@dataclass(frozen=True)
class ContrastItems:
    """I anchors, each with S samples of which some are to be close and some to be far; others take no part.

    Attributes:
        anchors: (I, C).
        samples: (I, S, C).
        positive: (I, S) bool.
        negative: (I, S) bool.
        measured: (I, S) bool samples of the cosine term; None: all positive and negative ones.
    """

    anchors: Tensor
    samples: Tensor
    positive: Tensor
    negative: Tensor
    measured: Tensor | None = None


def contrast_losses(items: ContrastItems) -> dict[str, Tensor]:
    """Means over the items of all processes; without an item, 0 with a graph.

    Returns:
        "contrast": log(1 + sum of exp(n - p) over all pairs of a negative and a positive), n and p dot products with
            the anchor (QDTrack, arXiv 2006.06664).
        "cosine": mean squared difference of the cosine to the anchor from 1 for positives and 0 for negatives.
    """
    anchors, samples = items.anchors.float(), items.samples.float()
    products = torch.einsum("ic,isc->is", anchors, samples)
    contrast = F.softplus(_logsumexp(products, items.negative) + _logsumexp(-products, items.positive))
    cosines = torch.einsum("ic,isc->is", F.normalize(anchors, dim=-1), F.normalize(samples, dim=-1))
    measured = (items.positive | items.negative) if items.measured is None else items.measured
    errors = (cosines - items.positive.float()).square() * measured
    cosine = errors.sum(1) / measured.sum(1).clamp(min=1)
    count = mean_over_processes(anchors.new_full((), len(anchors))).clamp(min=1 / world_size())
    return {"contrast": contrast.sum() / count, "cosine": cosine.sum() / count}


def _logsumexp(x: Tensor, chosen: Tensor) -> Tensor:
    """log of the sum of exp(x) (I, S) over the chosen; a very negative number where there is none."""
    return x.masked_fill(~chosen, -1e9).logsumexp(1)


def carriers(matches: Matches, output: int, num_frames: int, shape: tuple[int, int]) -> Tensor:
    """Which query carries which instance, in a view whose clips are single frames.

    Args:
        output: whose matches count.
        num_frames: T.
        shape: B, G.

    Returns:
        (B, G, T) int64 on the host, -1 where an instance is matched with no query.
    """
    clips, instances = shape
    found = torch.full((clips * num_frames, instances), -1)
    here = matches.output == output
    found[matches.clip[here], matches.instance[here]] = matches.query[here]
    return found.view(clips, num_frames, instances).mT


def memory_items(
    embeddings: Tensor, carrier: Tensor, from_memory: Tensor | None = None, compat: bool = False
) -> ContrastItems:
    """CTVIS' items: every sighting of an instance from the second frame on, if it is seen in another frame too.

    The positive is the memory of the instance before this frame, or its latest embedding; the first later embedding if
    it was not seen before. Negatives are all other embeddings of the frame before.

    Args:
        embeddings: (B, T, Q, C) of the queries of each frame.
        carrier: (B, G, T) int64 on the host, the query that is matched with instance g in frame t; -1 where there is
            none.
        from_memory: (B, G, T) bool on the host, True: the memory; drawn with probability 1/2 if not given.
        compat: leave out what the published code leaves out by a wrong count: an instance that is new in frame t,
            when it is missing in exactly t of the frames after it.
    """
    if from_memory is None:
        from_memory = torch.rand(carrier.shape) < 0.5
    anchors, positives, rows = [], [], []
    chosen = from_memory.tolist()
    for clip, instances in enumerate(carrier.tolist()):
        for instance, queries in enumerate(instances):
            track = [None if q < 0 else embeddings[clip, t, q] for t, q in enumerate(queries)]
            for frame, positive in _positives(track, chosen[clip][instance], compat):
                anchors.append(embeddings[clip, frame, queries[frame]])
                positives.append(positive)
                rows.append((clip, frame - 1, queries[frame - 1]))
    return _items(embeddings, anchors, positives, rows)


def _positives(
    track: Sequence[Tensor | None], from_memory: Sequence[bool], compat: bool
) -> Iterator[tuple[int, Tensor]]:
    """The frames of one instance that are anchors, each with its positive (C,)."""
    memory = SimilarityGuided()
    for frame, embedding in enumerate(track):
        if embedding is None:
            continue
        after = track[frame + 1 :]
        later = next((x for x in after if x is not None), None)
        if memory.seen:
            yield frame, memory.embedding if from_memory[frame] else memory.recent[-1]
        elif frame and later is not None and not (compat and sum(x is None for x in after) == frame):
            yield frame, later
        memory.update(embedding)


def _items(
    embeddings: Tensor, anchors: list[Tensor], positives: list[Tensor], rows: list[tuple[int, int, int]]
) -> ContrastItems:
    """Rows say whose embeddings are the negatives: clip, frame, and the query in it that is none (-1: all are)."""
    queries, dim = embeddings.shape[2:]
    (where,) = to_device([torch.tensor(rows, dtype=torch.int64).view(-1, 3)], embeddings.device)
    others = embeddings[where[:, 0], where[:, 1]]
    own = torch.arange(queries, device=embeddings.device) == where[:, 2:]
    nothing = embeddings.new_zeros(0, dim)
    first = torch.stack(positives)[:, None] if positives else nothing[:, None]
    samples = torch.cat([first, others], 1)
    positive = torch.zeros(samples.shape[:2], dtype=torch.bool, device=embeddings.device)
    positive[:, 0] = True
    negative = torch.cat([torch.zeros_like(positive[:, :1]), ~own], 1)
    return ContrastItems(torch.stack(anchors) if anchors else nothing, samples, positive, negative)
