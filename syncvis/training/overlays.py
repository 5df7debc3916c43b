"""Pictures of a run: annotated above predicted tracks, one file per video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from syncvis.data.ytvis import Video, VideoDataset
from syncvis.ops.masks import decode
from syncvis.structures import Track, VideoPrediction
from syncvis.training.label_maps import MAX_LABELS, LabelMaps, label_map
from syncvis.visualization import Masks, Pixels, contact_sheet, overlay, save_png

MIN_SCORE = 0.3
MAX_FRAMES = 8
MAX_VIDEOS = 4


def write_overlays(
    folder: Path, dataset: VideoDataset, predictions: Sequence[VideoPrediction], max_videos: int = MAX_VIDEOS
) -> list[Path]:
    """Write ``<folder>/<video id>.png`` for the first videos; returns the paths.

    Beside each lies ``<video id>.npz``, the :class:`LabelMaps` of its middle frame.
    """
    by_video = {prediction.video_id: prediction for prediction in predictions}
    videos = [video for video in dataset.videos if video.id in by_video][:max_videos]
    for video in videos:
        label_maps(dataset, video, by_video[video.id]).save(folder / f"{video.id}.npz")
    return [write_overlay(folder / f"{video.id}.png", dataset, video, by_video[video.id]) for video in videos]


def write_overlay(path: Path, dataset: VideoDataset, video: Video, prediction: VideoPrediction) -> Path:
    """One picture: frames with the annotated tracks, if there are any, above the confident predicted ones."""
    frames = _spread(len(video))
    names = [category.name for category in dataset.categories]
    kept = confident(prediction)
    rows, labels = [], []
    if video.tracks:
        rows.append(_row(dataset, video, frames, [_annotated(video, t) for t in frames]))
        labels.append("annotated: " + ", ".join(names[track.label] for track in video.tracks))
    rows.append(_row(dataset, video, frames, [_predicted(video, kept, t) for t in frames]))
    labels.append("predicted: " + ", ".join(f"{names[track.label]} {track.score:.2f}" for track in kept))
    title = f"video {video.id}: {Path(video.file_names[0]).parent}"
    return save_png(contact_sheet(rows, labels, [f"frame {t}" for t in frames], title), path)


def label_maps(dataset: VideoDataset, video: Video, prediction: VideoPrediction) -> LabelMaps:
    """Of the middle frame of a video: the annotated tracks, and the confident predicted ones, the best on top."""
    t, names = len(video) // 2, [category.name for category in dataset.categories]
    kept = confident(prediction)[:MAX_LABELS]
    truth = video.tracks[:MAX_LABELS]
    upwards = sorted(range(len(kept)), key=lambda n: kept[n].score)
    return LabelMaps(
        frame=dataset.read_frame(video, t),
        truth=label_map(_annotated(video, t)[:MAX_LABELS], range(len(truth)), (video.height, video.width)),
        truth_names=tuple(f"{names[track.label]} #{n}" for n, track in enumerate(truth, 1)),
        prediction=label_map(_predicted(video, kept, t), upwards, (video.height, video.width)),
        prediction_names=tuple(f"{names[track.label]} #{n} {track.score:.2f}" for n, track in enumerate(kept, 1)),
    )


def confident(prediction: VideoPrediction) -> list[Track]:
    """The tracks that pictures show: those of a score, else the best one."""
    return [track for track in prediction.tracks if track.score >= MIN_SCORE] or list(prediction.tracks[:1])


def _spread(length: int) -> list[int]:
    return sorted({round(t) for t in np.linspace(0, length - 1, min(length, MAX_FRAMES))})


def _row(dataset: VideoDataset, video: Video, frames: Sequence[int], masks: Sequence[Masks]) -> list[Pixels]:
    return [
        overlay(dataset.read_frame(video, t), mask, range(len(mask))) for t, mask in zip(frames, masks, strict=True)
    ]


def _annotated(video: Video, t: int) -> Masks:
    return np.array([track.mask(t) for track in video.tracks])


def _predicted(video: Video, tracks: Sequence[Track], t: int) -> Masks:
    """(G, H, W): the predicted masks of frame t."""
    masks = np.zeros((len(tracks), video.height, video.width), bool)
    for g, track in enumerate(tracks):
        rle = track.masks[t]
        if rle is not None:
            masks[g] = decode(rle, video.height, video.width, "prediction")
    return masks
