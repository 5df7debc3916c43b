"""The evaluation against the official way to find IoUs, in the same run: a loop over frames with pycocotools."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

from syncvis.evaluation.results import read_results, write_results
from syncvis.evaluation.tubes import Job, read_tubes
from syncvis.evaluation.ytvis import GroundTruthTrack, GroundTruthVideo, evaluate
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


def plain(truth: list[GroundTruthVideo], predictions: list[VideoPrediction]) -> list[float]:
    """The IoU of all pairs of a class, as the official evaluator finds it: without matches and precision."""
    return [
        _plain_iou(track.masks, annotated.segmentations)
        for video, prediction in zip(truth, predictions, strict=True)
        for annotated in video.tracks
        for track in prediction.tracks
        if track.label == annotated.label
    ]


def _plain_iou(found: tuple, truth: tuple) -> float:
    shared = union = 0
    for a, b in zip(found, truth, strict=True):
        shared += int(coco.area(coco.merge([a, b], True)))
        union += int(coco.area(coco.merge([a, b], False)))
    return shared / union if union else 0.0


def read(truth: list[GroundTruthVideo], predictions: list[VideoPrediction], folder: Path) -> Case:
    """The same as it comes from files: with masks that are read and checked."""
    write_results(folder / "results.json", predictions, range(CLASSES))
    jobs = [
        Job((v, g), track.segmentations, (HEIGHT, WIDTH))
        for v, video in enumerate(truth)
        for g, track in enumerate(video.tracks)
    ]
    tubes = dict(read_tubes(jobs, lambda job: None))
    videos = [
        replace(video, tracks=[replace(t, segmentations=tubes[v, g]) for g, t in enumerate(video.tracks)])
        for v, video in enumerate(truth)
    ]
    return videos, read_results(folder / "results.json", range(CLASSES))


def seconds(run: Callable[[], object], times: int = 3) -> float:
    def once() -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return min(once() for _ in range(times))


def test_faster_than_a_loop_over_frames(tmp_path: Path) -> None:
    truth, predictions = case(20, 36, 10)
    names = [str(n) for n in range(CLASSES)]
    loaded = read(truth, predictions, tmp_path)
    ours = seconds(lambda: evaluate(*loaded, names))
    reading = seconds(lambda: read_results(tmp_path / "results.json", range(CLASSES)))
    loop = seconds(lambda: plain(truth, predictions))
    parsing = seconds(lambda: json.loads((tmp_path / "results.json").read_bytes()))
    print(f"\nIoU in a loop {loop:.3f} s, our whole evaluation {ours:.3f} s: {loop / ours:.1f} times")
    print(f"reading and checking {reading:.3f} s, of which JSON is about {parsing:.3f} s")
    assert loop > 10 * ours


def seconds_of(videos: int, frames: int, tracks: int) -> float:
    truth, predictions = case(videos, frames, tracks)
    return seconds(lambda: evaluate(truth, predictions, ["a", "b", "c"]))


def test_time_is_at_most_linear_in_videos_frames_and_tracks() -> None:
    base = seconds_of(4, 10, 6)
    for four_times in ((16, 10, 6), (4, 40, 6), (4, 10, 24)):
        assert seconds_of(*four_times) < 1.5 * 4 * base
