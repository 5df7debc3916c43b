"""Whole-video inference: encode in chunks, decode all frames at once, keep the best tracks.

Only the decoder mixes frames, so that chunks change nothing. What grows with the video are the feature maps that the
queries read, and the mask features, which wait in the host's memory until the masks of the best tracks are made, again
chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncvis.config import EvalConfig
from syncvis.methods.base import Method
from syncvis.ops.masks import encode
from syncvis.structures import RLE, ClipBatch, ClipFeatures, LayerOutput, Track, VideoPrediction

CHUNKS = {"cpu": 2, "cuda": 16}
"""Frames that pass the backbone together, and whose masks are made together; a CPU's caches like few."""


def chunk_length(device: torch.device) -> int:
    return CHUNKS.get(device.type, max(CHUNKS.values()))


def predict_video(
    model: Method,
    batch: ClipBatch,
    resized: tuple[int, int],
    original: tuple[int, int],
    video_id: int,
    config: EvalConfig,
) -> VideoPrediction:
    """Tracks of one video whose frames are all in memory: one clip; see :func:`predict_chunks`."""
    length = chunk_length(batch.images.device)
    chunks = zip(batch.images.split(length, 1), batch.valid.split(length, 1), strict=True)
    return predict_chunks(
        model, (ClipBatch(*c) for c in chunks), resized, original, video_id, config, batch.images.device
    )


@torch.no_grad()
def predict_chunks(
    model: Method,
    chunks: Iterable[ClipBatch],
    resized: tuple[int, int],
    original: tuple[int, int],
    video_id: int,
    config: EvalConfig,
    device: torch.device,
) -> VideoPrediction:
    """Tracks of one video that comes in chunks.

    Args:
        chunks: batches of one clip, consecutive frames of the video padded to one size.
        resized: height and width of the frames inside the padded batches.
        original: height and width that the masks must have.

    Returns:
        At most ``config.topk`` tracks, best first: the best (query, class) pairs, so a query may appear twice.
    """
    features, padded = _encode(model, chunks, device)
    output, _ = model.decode(features)
    class_logits, mask_embeddings = track_predictions(output.final, features.num_frames)
    probabilities = class_logits.softmax(-1)[:, :-1]
    scores, order = probabilities.flatten().topk(min(config.topk, probabilities.numel()))
    queries, labels = order // probabilities.shape[1], order % probabilities.shape[1]
    sizes = (padded, resized, original)
    masks, sureness = _track_masks(mask_embeddings[:, queries], features.mask[0], sizes, config.score != "class")
    found = zip(labels.tolist(), (scores.cpu() * sureness).tolist(), masks, strict=True)
    tracks = [Track(label, score, tuple(mask)) for label, score, mask in found]
    return VideoPrediction(video_id, tuple(sorted(tracks, key=lambda track: -track.score)))


def _encode(model: Method, chunks: Iterable[ClipBatch], device: torch.device) -> tuple[ClipFeatures, tuple[int, int]]:
    """Features of all frames, the mask features in the host's memory, and the padded height and width."""
    parts = []
    for chunk in chunks:
        features = model.encode(chunk.images.to(device), chunk.valid.to(device))
        parts.append(replace(features, mask=features.mask.cpu()))
        padded = (chunk.images.shape[-2], chunk.images.shape[-1])
    return ClipFeatures.concat(parts), padded


def track_predictions(output: LayerOutput, num_frames: int) -> tuple[Tensor, Tensor]:
    """Class logits (Q, K+1) and mask embeddings (T, Q, C) of a batch of one.

    Video queries predict where there are any; frame queries alone are linked over the frames.
    """
    if output.video is not None:
        return output.video.class_logits[0], output.video.mask_embeddings.expand(num_frames, -1, -1)
    assert output.frame is not None
    frame = output.frame
    order = link_frames(frame.embeddings[0])[..., None]
    class_logits = torch.take_along_dim(frame.class_logits[0], order, 1).mean(0)
    return class_logits, torch.take_along_dim(frame.mask_embeddings[0], order, 1)


def link_frames(embeddings: Tensor) -> Tensor:
    """Which query of each frame continues which query of the first one (MinVIS, arXiv 2208.02245).

    Each frame is assigned to the one before by the largest total cosine of the embeddings.

    Args:
        embeddings: (T, Q, C).

    Returns:
        (T, Q) indices; row 0 counts upwards.
    """
    unit = F.normalize(embeddings, dim=-1)
    order = [torch.arange(embeddings.shape[1])]
    for before, after in pairwise(unit):
        similarity = before[order[-1]] @ after.T
        order.append(torch.from_numpy(linear_sum_assignment(similarity.cpu().numpy(), maximize=True)[1]))
    return torch.stack(order).to(embeddings.device)


def _track_masks(
    embeddings: Tensor, mask_features: Tensor, sizes: tuple[tuple[int, int], ...], measured: bool
) -> tuple[list[list[RLE | None]], Tensor]:
    """Masks of each track, frame by frame, and how sure they are.

    Args:
        embeddings: (T, R, C) mask embeddings of R tracks.
        mask_features: (T, C, h, w), on any device.
        sizes: height and width of the padded input, of the image inside it, and of the masks.
        measured: sureness is the mean foreground probability over the foreground pixels of all frames; else 1.
    """
    masks: list[list[RLE | None]] = [[] for _ in range(embeddings.shape[1])]
    total, count = torch.zeros(len(masks)), torch.zeros(len(masks))
    length = chunk_length(embeddings.device)
    for here, features in zip(embeddings.split(length), mask_features.split(length), strict=True):
        logits = torch.einsum("trc,tchw->rthw", here, features.to(here.device))
        for track, low in enumerate(logits):  # one at a time: full-size masks of all tracks may be large
            full = _to_original(low, *sizes)
            inside = full > 0
            masks[track] += [encode(mask) if mask.any() else None for mask in inside.cpu().numpy()]
            if measured:
                total[track] += (full.sigmoid() * inside).sum().cpu()
                count[track] += inside.sum().cpu()
    return masks, total / (count + 1e-6) if measured else torch.ones(len(masks))


def _to_original(
    logits: Tensor, padded: tuple[int, int], resized: tuple[int, int], original: tuple[int, int]
) -> Tensor:
    """Mask logits (T, h, w) -> (T, H, W) at the original size: upsample to the padded input, crop, resize."""
    full = F.interpolate(logits[:, None], padded, mode="bilinear", align_corners=False)
    full = full[..., : resized[0], : resized[1]]
    if resized != original:
        full = F.interpolate(full, original, mode="bilinear", align_corners=False)
    return full[:, 0]
