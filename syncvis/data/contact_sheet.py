"""Pictures of a data set: a contact sheet with one row per video, or one video; instances on top of the frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from syncvis.data.panels import Layer, Predictions, layers, panel
from syncvis.data.video_writer import write_video
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.visualization import Pixels, contact_sheet, save_png

SHEET_HEIGHT, VIDEO_HEIGHT = 160, 360
"""Of one picture, in pixels."""


def write_contact_sheet(
    dataset: VideoDataset, out: Path, max_videos: int, max_frames: int, predictions: Predictions | None = None
) -> Path:
    """Write a PNG of the first videos: one row each, and one more below it for predictions.

    Raises:
        DataError: A frame or mask is damaged, or a prediction does not fit its video.
        StorageError: The file cannot be written.
    """
    rows: list[list[Pixels]] = []
    labels: list[str] = []
    for video in dataset.videos[:max_videos]:
        for layer in layers(dataset, video, predictions):
            rows.append([_draw(dataset, video, layer, t) for t in evenly(len(video), max_frames)])
            labels.append(f"video {video.id}, {len(video)} frames, {layer}")
    return save_png(contact_sheet(rows, labels, title=dataset.source.name), out)


def _draw(dataset: VideoDataset, video: Video, layer: Layer, t: int) -> Pixels:
    return panel(dataset.read_frame(video, t), layer, t, SHEET_HEIGHT, full_tags=False)


def write_overlay_video(
    dataset: VideoDataset, out: Path, max_frames: int, fps: int, predictions: Predictions | None = None
) -> Path:
    """Write the first video as a file to play: annotation, and predictions below it.

    Returns:
        The file; a .gif where a video was asked for and there is no encoder.

    Raises:
        ConfigError: The file's suffix is not that of a video.
        DataError: A frame or mask is damaged, or a prediction does not fit its video.
        StorageError: The file cannot be written.
    """
    video = dataset.videos[0]
    drawn = layers(dataset, video, predictions)

    def pictures() -> Iterator[Pixels]:
        for t in evenly(len(video), max_frames):
            frame = dataset.read_frame(video, t)
            yield np.concatenate([panel(frame, layer, t, VIDEO_HEIGHT, full_tags=True) for layer in drawn])

    return write_video(out, pictures, fps)


def evenly(length: int, most: int) -> list[int]:
    """At most ``most`` frame indices, evenly spread, the first and the last among them."""
    return sorted({round(t) for t in np.linspace(0, length - 1, min(length, most))})
