"""The evaluation against a plain one in the same run: a loop over frames with pycocotools, and over pairs in Python."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from pycocotools import mask as coco

from syncvis.evaluation.matching import THRESHOLDS
from syncvis.evaluation.ytvis import AREA_RANGES, GroundTruthTrack, GroundTruthVideo, evaluate
from syncvis.ops import masks
from syncvis.structures import Track, VideoPrediction

HEIGHT, WIDTH, CLASSES = 180, 320, 1
Case = tuple[list[GroundTruthVideo], list[VideoPrediction]]


def case(videos: int, frames: int, tracks: int) -> Case:
    rng = np.random.default_rng(0)
    truth, predictions = [], []
    for video in range(videos):
        tubes = [_tube(rng, frames) for _ in range(3)]
        truth.append(GroundTruthVideo(video, HEIGHT, WIDTH, frames, [GroundTruthTrack(0, t) for t in tubes]))
        found = [
            Track(n % CLASSES, float(rng.random()), tubes[n % 3] if n < 3 else _tube(rng, frames))
            for n in range(tracks)
        ]
        predictions.append(VideoPrediction(video, tuple(found)))
    return truth, predictions


def _tube(rng: np.random.Generator, frames: int) -> tuple:
    """A moving disc."""
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    radius, left, top, speed = rng.uniform((20, 0, 0, -2), (60, WIDTH, HEIGHT, 2))
    return tuple(masks.encode((x - left - speed * t) ** 2 + (y - top) ** 2 < radius**2) for t in range(frames))


def plain(truth: list[GroundTruthVideo], predictions: list[VideoPrediction]) -> dict[tuple[int, int], int]:
    """Matches of every threshold and area range, without average precision."""
    matched: dict[tuple[int, int], int] = {}
    for video, prediction in zip(truth, predictions, strict=True):
        for annotated in video.tracks:
            tracks = [t for t in sorted(prediction.tracks, key=lambda t: -t.score) if t.label == annotated.label]
            ious = [_plain_iou(track.masks, annotated.segmentations) for track in tracks]
            for area in range(len(AREA_RANGES)):
                for place, threshold in enumerate(THRESHOLDS):
                    matched[area, place] = matched.get((area, place), 0) + any(iou >= threshold for iou in ious)
    return matched


def _plain_iou(found: tuple, truth: tuple) -> float:
    shared = union = 0
    for a, b in zip(found, truth, strict=True):
        shared += int(coco.area(coco.merge([a, b], True)))
        union += int(coco.area(coco.merge([a, b], False)))
    return shared / union if union else 0.0


def seconds(run: Callable[[], object], times: int = 3) -> float:
    def once() -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return min(once() for _ in range(times))


def test_faster_than_a_loop_over_frames() -> None:
    truth, predictions = case(10, 20, 10)
    ours = seconds(lambda: evaluate(truth, predictions, ["a", "b", "c"]))
    assert seconds(lambda: plain(truth, predictions)) > 1.2 * ours


def seconds_of(videos: int, frames: int, tracks: int) -> float:
    truth, predictions = case(videos, frames, tracks)
    return seconds(lambda: evaluate(truth, predictions, ["a", "b", "c"]))


def test_time_is_at_most_linear_in_videos_frames_and_tracks() -> None:
    base = seconds_of(4, 10, 6)
    for four_times in ((16, 10, 6), (4, 40, 6), (4, 10, 24)):
        assert seconds_of(*four_times) < 1.5 * 4 * base
