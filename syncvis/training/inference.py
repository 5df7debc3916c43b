"""Whole-video inference: encode in chunks, decode all frames at once, keep the best tracks."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncvis.config import EvalConfig
from syncvis.methods.base import Method
from syncvis.ops.masks import encode
from syncvis.structures import ClipBatch, ClipFeatures, LayerOutput, Track, VideoPrediction

ENCODE_CHUNK = 16


@torch.no_grad()
def predict_video(
    model: Method,
    batch: ClipBatch,
    resized: tuple[int, int],
    original: tuple[int, int],
    video_id: int,
    config: EvalConfig,
) -> VideoPrediction:
    """Tracks of one video.

    Args:
        batch: one clip of all frames of the video.
        resized: height and width of the frames inside the padded batch.
        original: height and width that the masks must have.

    Returns:
        At most ``config.topk`` tracks, best first: the best (query, class) pairs, so a query may appear twice.
    """
    chunks = zip(batch.images.split(ENCODE_CHUNK, 1), batch.valid.split(ENCODE_CHUNK, 1), strict=True)
    features = ClipFeatures.concat([model.encode(images, valid) for images, valid in chunks])
    output, _ = model.decode(features)
    class_logits, mask_logits = video_predictions(output.final)
    probabilities = class_logits.softmax(-1)[:, :-1]
    scores, order = probabilities.flatten().topk(min(config.topk, probabilities.numel()))
    padded = (batch.images.shape[-2], batch.images.shape[-1])
    tracks = []
    for score, index in zip(scores.tolist(), order.tolist(), strict=True):
        query, label = divmod(index, probabilities.shape[1])
        full = _to_original(mask_logits[query], padded, resized, original)
        quality = _mask_quality(full) if config.score == "class_times_mask" else 1.0
        masks = tuple(encode(mask) if mask.any() else None for mask in (full > 0).cpu().numpy())
        tracks.append(Track(label, score * quality, masks))
    return VideoPrediction(video_id, tuple(sorted(tracks, key=lambda track: -track.score)))


def video_predictions(output: LayerOutput) -> tuple[Tensor, Tensor]:
    """Class logits (Q, K+1) and mask logits (Q, T, h, w) of a batch of one.

    Video queries predict where there are any; frame queries alone are linked over the frames.
    """
    if output.video is not None:
        return output.video.class_logits[0], output.video.mask_logits[0]
    assert output.frame is not None
    embeddings, class_logits, masks = (
        x[0] for x in (output.frame.embeddings, output.frame.class_logits, output.frame.mask_logits)
    )
    order = link_frames(embeddings)
    by_track = torch.take_along_dim(masks, order[..., None, None], 1).transpose(0, 1)
    return torch.take_along_dim(class_logits, order[..., None], 1).mean(0), by_track


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


def _to_original(
    logits: Tensor, padded: tuple[int, int], resized: tuple[int, int], original: tuple[int, int]
) -> Tensor:
    """Mask logits (T, h, w) -> (T, H, W) at the original size: upsample to the padded input, crop, resize."""
    full = F.interpolate(logits[:, None], padded, mode="bilinear", align_corners=False)
    full = full[..., : resized[0], : resized[1]]
    if resized != original:
        full = F.interpolate(full, original, mode="bilinear", align_corners=False)
    return full[:, 0]


def _mask_quality(logits: Tensor) -> float:
    """Mean foreground probability over the foreground pixels of all frames."""
    probability = logits.sigmoid()
    inside = probability > 0.5
    return float((probability * inside).sum() / (inside.sum() + 1e-6))
