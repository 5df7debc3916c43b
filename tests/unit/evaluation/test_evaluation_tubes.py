"""Overlaps on run lengths against boolean arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from syncvis.evaluation import occlusion, tubes
from syncvis.evaluation.overlaps import Tracks, found_tubes, likely_pairs, overlap, truth_tubes
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo
from syncvis.ops import masks
from syncvis.structures import Track

HEIGHT, WIDTH, FRAMES = 6, 8, 4


def tube(rng: np.random.Generator) -> np.ndarray:
    """(T, H, W): boxes, noise with many strips a column, full and empty frames."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame in frames:
        kind = rng.integers(5)
        top, left = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        if kind < 2:
            frame[top : top + 3, left : left + 4] = True
        else:
            frame[:] = rng.random((HEIGHT, WIDTH)) < (0, 0.5, 1)[kind - 2]
    return frames


def rles(frames: np.ndarray, rng: np.random.Generator) -> tuple:
    return tuple(masks.encode(frame) if frame.any() or rng.random() < 0.5 else None for frame in frames)


def random_video(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray], GroundTruthVideo, list[Track]]:
    found, truth = ([tube(rng) for _ in range(rng.integers(1, 6))] for _ in range(2))
    annotated = [GroundTruthTrack(int(rng.integers(3)), rles(frames, rng)) for frames in truth]
    tracks = [Track(int(rng.integers(3)), 0.5, rles(frames, rng)) for frames in found]
    return found, truth, GroundTruthVideo(1, HEIGHT, WIDTH, FRAMES, annotated), tracks


@pytest.mark.parametrize("chunk", [1, 10**6])
def test_overlaps_are_those_of_the_pixels(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tubes, "_CHUNK_CHARACTERS", chunk)
    rng = np.random.default_rng(0)
    for _ in range(100):
        found, truth, video, tracks = random_video(rng)
        expected = np.array([[(f & g).sum(axis=(1, 2)) for g in truth] for f in found])
        ours = [tube for _, tube in found_tubes(video, tracks)], truth_tubes(video)
        whole = overlap(*ours, FRAMES)
        assert (whole.shared == expected).all()
        assert (whole.found == [f.sum(axis=(1, 2)) for f in found]).all()
        assert (whole.truth == [g.sum(axis=(1, 2)) for g in truth]).all()
        d, g = np.indices(whole.shared.shape[:2]).reshape(2, -1)
        likely = likely_pairs(Tracks(ours[0]), Tracks(ours[1]), d, g)
        ious = np.zeros(whole.shared.shape[:2])
        ious[likely.found, likely.truth] = likely.ious
        assert (ious == np.where(whole.tube_ious() >= 0.5, whole.tube_ious(), 0)).all()


def test_a_tube_reads_like_its_masks() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        video, tracks = random_video(rng)[2:]
        for (_, read), track in zip(found_tubes(video, tracks), tracks, strict=True):
            expected = [None if rle is None or not masks.area(rle) else rle for rle in track.masks]
            assert list(read) == expected
            assert read[1:] == tuple(expected[1:])
            assert read == expected
            assert read != expected[1:]
            assert read[-1] == expected[-1]


def box_of(frame: np.ndarray) -> list[int]:
    if not frame.any():
        return [0, 0, 0, 0]
    y, x = np.nonzero(frame)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def painted_rate(frames: np.ndarray) -> float:
    """The overlap rate of (N, T, H, W) masks, by painting their boxes."""
    rates = []
    for frame in frames.transpose(1, 0, 2, 3):
        covers = np.zeros((HEIGHT, WIDTH), int)
        for left, top, right, bottom in map(box_of, frame):
            covers[top:bottom, left:right] += 1
        if covers.any():
            rates.append((covers > 1).sum() / (covers > 0).sum())
    return float(np.mean(rates)) if rates else 0.0


def test_boxes_and_their_overlap_rate() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        _, truth, video, _ = random_video(rng)
        boxes = np.array([tube.boxes for tube in truth_tubes(video)])
        assert boxes.tolist() == [[box_of(frame) for frame in frames] for frames in truth]
        assert occlusion.overlap_rate(boxes) == pytest.approx(painted_rate(np.array(truth)), abs=1e-12)
    assert [occlusion.level(rate) for rate in (0, 0.05, 0.2, 0.9)] == ["none", "slight", "medium", "heavy"]


def test_annotations_keep_their_order_whatever_their_form() -> None:
    rng = np.random.default_rng(3)
    rectangles = [rles(tube(rng), rng) for _ in range(3)]
    listed = tuple(rle and {**rle, "counts": masks.runs(rle, "test").tolist()} for rle in rectangles[1])
    video = GroundTruthVideo(1, HEIGHT, WIDTH, FRAMES, [GroundTruthTrack(0, frames) for frames in rectangles])
    mixed = [rectangles[0], listed, truth_tubes(video)[2]]
    again = replace(video, tracks=[GroundTruthTrack(0, frames) for frames in mixed])
    assert [list(read) for read in truth_tubes(again)] == [list(read) for read in truth_tubes(video)]


def test_columns_far_apart_take_no_room_between_them() -> None:
    frame = np.zeros((4, 20_000), bool)
    frame[1, [3, 19_990]] = True
    (read,) = truth_tubes(GroundTruthVideo(1, 4, 20_000, 1, [GroundTruthTrack(0, [masks.encode(frame)])]))
    assert len(read.sheet.edges) < 10
    assert read == [masks.encode(frame)]
    assert overlap([read], [read], 1).shared.tolist() == [[[2]]]


@pytest.mark.parametrize(("size", "frames"), [((40_000, 3), 2), ((6000, 6000), 70)])
def test_tall_frames_and_more_pixels_than_32_bits_count(size: tuple[int, int], frames: int) -> None:
    height, width = size
    own, other = (
        masks.from_runs(np.array([height + top, height - top - 9, height * (width - 2) + 9]), height, width)
        for top in (5, height // 2)
    )
    video = GroundTruthVideo(1, height, width, frames, [GroundTruthTrack(0, (own,) * frames)])
    track = Track(0, 0.5, (other,) * frames)
    found = [tube for _, tube in found_tubes(video, [track])]
    whole = overlap(found, truth_tubes(video), frames)
    assert (whole.shared == height - height // 2 - 9).all()
    assert found[0] == track.masks
    assert found[0].boxes.tolist() == [[1, height // 2, 2, height - 9]] * frames
