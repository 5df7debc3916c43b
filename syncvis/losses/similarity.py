"""VITA's similarity loss: embeddings of one instance agree, those of two differ, over all frames and the clip."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.distributed import mean_over_processes, world_size
from syncvis.losses.matcher import Matches
from syncvis.transfer import to_device


def similarity_loss(frame: Tensor, clip: Tensor, frame_matches: Matches, clip_matches: Matches) -> Tensor:
    """Binary cross-entropy on the dot products of all matched embeddings of a clip (VITA, vita_criterion.py).

    The matched frame queries of all frames and the matched clip queries, of one clip and branch, form a set. Every
    ordered pair of a set counts, an embedding with itself too; its target is 1 if both are matched to one instance.
    The loss is the mean over the pairs of all sets, so that larger sets weigh more.

    Args:
        frame: (L, B, T, Qf, C) embeddings of the frame queries in L branches.
        clip: (L, B, Qc, C) embeddings of the clip queries.
        frame_matches: of the outputs 0 .. L-1; frame t of clip b is its clip b * T + t, an instance is a row of the
            target of clip b.
        clip_matches: of the outputs 0 .. L-1 on the B clips.

    Returns:
        A scalar; 0 if nothing is matched.
    """
    branches, clips, num_frames = frame.shape[:3]
    output = torch.cat([frame_matches.output, clip_matches.output])
    which = output * clips + torch.cat([frame_matches.clip // num_frames, clip_matches.clip])
    counts, order = which.bincount(minlength=branches * clips), which.argsort(stable=True)
    places = [x for m in (frame_matches, clip_matches) for x in (m.output, m.clip, m.query, m.instance)]
    *places, order = to_device([*places, order], frame.device)
    of_frames, of_clips = frame.flatten(1, 2)[tuple(places[:3])], clip[tuple(places[4:7])]
    embeddings, instance = torch.cat([of_frames, of_clips]).float(), torch.cat([places[3], places[7]])
    sets = zip(embeddings[order].split(counts.tolist()), instance[order].split(counts.tolist()), strict=True)
    with torch.autocast(frame.device.type, enabled=False):
        total = torch.stack([_all_pairs(*members) for members in sets]).sum()
    pairs = mean_over_processes(total.new_full((), int((counts * counts).sum())))
    return total / pairs.clamp(min=1 / world_size())


def _all_pairs(embeddings: Tensor, instance: Tensor) -> Tensor:
    """Sum over all pairs of one set: embeddings (N, C), instance (N,)."""
    same = (instance[:, None] == instance).to(embeddings.dtype)
    return F.binary_cross_entropy_with_logits(embeddings @ embeddings.T, same, reduction="sum")
