"""Whole-video inference: encode in chunks, let the method's stream find tracks, keep the best and make their masks.

Frames do not see each other in the encoder, so that chunks change nothing. What a stream needs of them later waits; the
mask features do so in the host's memory until the masks of the best tracks are made, again chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.config import EvalConfig
from syncvis.methods.base import Method
from syncvis.ops.masks import encode
from syncvis.outputs import VideoTracks
from syncvis.structures import RLE, ClipBatch, Track, VideoPrediction

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
        At most ``config.topk`` tracks, best first: the best (track, class) pairs, so a track may appear twice.
    """
    stream = model.stream(torch.float16) if config.features == "half" else model.stream()
    for chunk in chunks:
        there = chunk.to(device)
        stream.step(model.encode_batch(there) if there.digests else model.encode(there.images, there.valid))
        padded = (chunk.images.shape[-2], chunk.images.shape[-1])
    tracks = stream.finish()
    scores, order = tracks.scores.flatten().topk(min(config.topk, tracks.scores.numel()))
    chosen, labels = order // tracks.scores.shape[1], order % tracks.scores.shape[1]
    masks, sureness = _track_masks(tracks, chosen, (padded, resized, original), config.score != "class")
    found = zip(labels.tolist(), (scores.cpu() * sureness).tolist(), masks, strict=True)
    best = [Track(label, score, tuple(mask)) for label, score, mask in found]
    return VideoPrediction(video_id, tuple(sorted(best, key=lambda track: -track.score)))


def _track_masks(
    tracks: VideoTracks, chosen: Tensor, sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]], measured: bool
) -> tuple[list[list[RLE | None]], Tensor]:
    """Masks of the chosen tracks, frame by frame, and how sure they are.

    Args:
        chosen: (r,) indices of tracks.
        sizes: height and width of the padded input, of the image inside it, and of the masks.
        measured: sureness is the mean foreground probability over the foreground pixels of all frames; else 1.
    """
    masks: list[list[RLE | None]] = [[] for _ in range(len(chosen))]
    total, count = torch.zeros(len(masks)), torch.zeros(len(masks))
    length, num_frames = chunk_length(chosen.device), len(tracks.seen)
    padded, resized, original = sizes
    for start in range(0, num_frames, length):
        stop = min(start + length, num_frames)
        logits, seen = tracks.mask_logits(chosen, start, stop), tracks.seen[start:stop, chosen].T[..., None, None]
        for track, low in enumerate(logits):  # one at a time: full-size masks of all tracks may be large
            at_input = _to_input(low, padded, resized)
            full = _to_original(at_input, original)
            inside = (full > 0) & seen[track]
            masks[track] += [encode(mask) if mask.any() else None for mask in inside.cpu().numpy()]
            if measured:
                looked_at = at_input if tracks.sure_at_input else full
                foreground = (looked_at > 0) & seen[track]
                total[track] += (looked_at.sigmoid() * foreground).sum().cpu()
                count[track] += foreground.sum().cpu()
    return masks, total / (count + 1e-6) if measured else torch.ones(len(masks))


def _to_input(logits: Tensor, padded: tuple[int, int], resized: tuple[int, int]) -> Tensor:
    """Mask logits (T, h, w) at the size of the model's input, without its padding."""
    full = F.interpolate(logits[:, None], padded, mode="bilinear", align_corners=False)
    return full[:, 0, : resized[0], : resized[1]]


def _to_original(logits: Tensor, original: tuple[int, int]) -> Tensor:
    """Mask logits at the size of the input -> (T, H, W) at the original size."""
    if logits.shape[-2:] == original:
        return logits
    return F.interpolate(logits[:, None], original, mode="bilinear", align_corners=False)[:, 0]
