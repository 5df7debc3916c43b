"""A contact sheet of a data set: one row per video, annotated instances on top of the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from syncvis.data.ytvis import Video, VideoDataset
from syncvis.visualization import Pixels, contact_sheet, overlay, save_png


def write_contact_sheet(root: Path, split: str, out: Path, max_videos: int, max_frames: int) -> Path:
    """Write a PNG of the first videos of a split.

    Raises:
        DataError: The data set cannot be read.
    """
    dataset = VideoDataset.load(root, split)
    videos = dataset.videos[:max_videos]
    rows = [_row(dataset, video, max_frames) for video in videos]
    return save_png(contact_sheet(rows, [_label(dataset, video) for video in videos], title=f"{split}"), out)


def _row(dataset: VideoDataset, video: Video, max_frames: int) -> list[Pixels]:
    chosen = sorted({round(t) for t in np.linspace(0, len(video) - 1, min(len(video), max_frames))})
    ids = [track.id for track in video.tracks]
    shape = (len(ids), video.height, video.width)
    return [
        overlay(dataset.read_frame(video, t), np.array([k.mask(t) for k in video.tracks]).reshape(shape), ids)
        for t in chosen
    ]


def _label(dataset: VideoDataset, video: Video) -> str:
    names = [dataset.categories[track.label].name for track in video.tracks]
    return f"video {video.id}, {len(video)} frames: {', '.join(names) or 'no instances'}"
