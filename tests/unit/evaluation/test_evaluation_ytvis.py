from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from syncvis.errors import DataError
from syncvis.evaluation import ytvis
from syncvis.evaluation.summary import OFFICIAL
from syncvis.evaluation.ytvis import Evaluation, Evaluator, GroundTruthTrack, GroundTruthVideo, evaluate, ground_truth
from syncvis.ops import masks
from syncvis.structures import RLE, Track, VideoPrediction

CATEGORIES = ("circle", "square", "star")
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def rles(tube: np.ndarray) -> list[RLE | None]:
    """(T, H, W) bool -> one RLE or None per frame."""
    return [masks.encode(frame) if frame.any() else None for frame in tube]


def tube_of(frames: Sequence[RLE | None], height: int, width: int) -> np.ndarray:
    empty = np.zeros((height, width), bool)
    return np.stack([empty if f is None else masks.decode(f, height, width, "test") for f in frames])


def truth_track(tube: np.ndarray, label: int = 0, iscrowd: bool = False) -> GroundTruthTrack:
    return GroundTruthTrack(label, rles(tube), iscrowd)


def predicted_track(tube: np.ndarray, label: int = 0, score: float = 0.5) -> Track:
    return Track(label, score, tuple(rles(tube)))


def video_of(video_id: int, tubes: Sequence[np.ndarray], labels: Sequence[int] | None = None) -> GroundTruthVideo:
    length, height, width = tubes[0].shape
    labels = labels or [0] * len(tubes)
    tracks = [truth_track(tube, label) for tube, label in zip(tubes, labels, strict=True)]
    return GroundTruthVideo(video_id, height, width, length, tracks)


def row_of_pixels(start: int, stop: int, length: int = 2) -> np.ndarray:
    """(length, 1, 20) bool with the pixels start .. stop - 1 of every frame."""
    tube = np.zeros((length, 1, 20), bool)
    tube[:, :, start:stop] = True
    return tube


def random_tube(rng: np.random.Generator, length: int, height: int, width: int) -> np.ndarray:
    tube = np.zeros((length, height, width), bool)
    for frame in tube:
        if rng.random() < 0.8:
            top, left = rng.integers(0, height - 1), rng.integers(0, width - 1)
            frame[top : top + rng.integers(1, height), left : left + rng.integers(1, width)] = True
    return tube


def disturbed(rng: np.random.Generator, tube: np.ndarray) -> np.ndarray:
    """The tube with some pixels flipped, perhaps a frame lost and perhaps another one moved."""
    tube = tube ^ (rng.random(tube.shape) < rng.choice([0.0, 0.03, 0.1, 0.2]))
    if rng.random() < 0.3:
        tube[rng.integers(len(tube))] = False
    return tube


def random_case(rng: np.random.Generator, crowds: bool = True) -> tuple[list[GroundTruthVideo], list[VideoPrediction]]:
    videos, predictions = [], []
    for video_id in rng.permutation(20)[: rng.integers(1, 5)].tolist():
        length, height, width = (int(x) for x in rng.integers((1, 3, 3), (5, 9, 9)))
        tubes = [random_tube(rng, length, height, width) for _ in range(rng.integers(0, 5))]
        labels = rng.integers(0, len(CATEGORIES), len(tubes)).tolist()
        truth = [
            truth_track(tube, label, crowds and rng.random() < 0.2) for tube, label in zip(tubes, labels, strict=True)
        ]
        videos.append(GroundTruthVideo(video_id, height, width, length, truth))
        if rng.random() < 0.15:
            continue
        guesses = []
        for _ in range(rng.integers(0, 25)):
            known = tubes and rng.random() < 0.7
            n = rng.integers(len(tubes)) if known else 0
            tube = disturbed(rng, tubes[n]) if known else random_tube(rng, length, height, width)
            label = labels[n] if known and rng.random() < 0.9 else int(rng.integers(len(CATEGORIES)))
            guesses.append(predicted_track(tube, label, round(float(rng.random()), 1)))
        predictions.append(VideoPrediction(video_id, tuple(guesses)))
    return videos, predictions


# The reference: the definition of the metric, frame by frame on boolean arrays, without pycocotools.


def tube_iou(found: np.ndarray, truth: np.ndarray) -> float:
    intersection = union = 0
    for f, t in zip(found, truth, strict=True):
        intersection += int((f & t).sum())
        union += int((f | t).sum())
    return intersection / union if union else 0.0


def mean_area(tube: np.ndarray) -> float:
    areas = [int(frame.sum()) for frame in tube if frame.any()]
    return sum(areas) / len(areas) if areas else 0.0


@dataclasses.dataclass(frozen=True)
class Compared:
    """The F best tracks of one class in one video, best first, beside its G annotated ones."""

    scores: list[float]
    found_areas: list[float]
    crowds: list[bool]
    truth_areas: list[float]
    ious: list[list[float]]  # F x G


def compare(video: GroundTruthVideo, tracks: Sequence[Track], label: int) -> Compared:
    size = video.height, video.width
    truth = [(tube_of(t.segmentations, *size), t.iscrowd) for t in video.tracks if t.label == label]
    best = sorted((t for t in tracks if t.label == label), key=lambda t: -t.score)[:100]
    found = [tube_of(t.masks, *size) for t in best]
    return Compared(
        [t.score for t in best],
        [mean_area(tube) for tube in found],
        [crowd for _, crowd in truth],
        [mean_area(tube) for tube, _ in truth],
        [[tube_iou(f, t) for t, _ in truth] for f in found],
    )


def match(case: Compared, threshold: float, area: tuple[float, float]) -> tuple[list[tuple[float, bool, bool]], int]:
    """(score, hit, ignored) of every track, best first, and the number of instances to find."""
    least, most = area
    outside = [c or not least <= a <= most for c, a in zip(case.crowds, case.truth_areas, strict=True)]
    free = [True] * len(outside)
    rows = []
    for score, found_area, ious in zip(case.scores, case.found_areas, case.ious, strict=True):
        best = None
        for wanted in (False, True):
            candidates = [
                (iou, g)
                for g, iou in enumerate(ious)
                if outside[g] is wanted and (free[g] or case.crowds[g]) and iou >= min(threshold, 1 - 1e-10)
            ]
            if candidates and best is None:
                best = max(candidates)[1]
        if best is not None:
            free[best] = False
        ignored = not least <= found_area <= most if best is None else outside[best]
        rows.append((score, best is not None, ignored))
    return rows, outside.count(False)


def precision_and_recall(
    cases: Sequence[Compared], threshold: float, most: int = 100, area: tuple[float, float] = (0, 1e10)
) -> tuple[float, float] | None:
    """101-point interpolated precision and the recall reached, None without instance."""
    rows, instances = [], 0
    for case in cases:
        matches, number = match(case, threshold, area)
        rows += matches[:most]
        instances += number
    if not instances:
        return None
    hits = misses = 0
    points = []
    for _, hit, ignored in sorted(rows, key=lambda r: -r[0]):
        hits += hit and not ignored
        misses += not hit and not ignored
        points.append((hits / instances, hits / (hits + misses) if hits + misses else 0.0))
    levels = [max((p for r, p in points if r >= level), default=0.0) for level in np.linspace(0, 1, 101)]
    return sum(levels) / 101, hits / instances


def mean_percent(values: Sequence[tuple[float, float] | None], place: int) -> float:
    defined = [value[place] for value in values if value is not None]
    return 100 * sum(defined) / len(defined) if defined else math.nan


def reference(videos: Sequence[GroundTruthVideo], predictions: Sequence[VideoPrediction]) -> Evaluation:
    labels = range(len(CATEGORIES))
    tracks = {p.video_id: p.tracks for p in predictions}
    videos = sorted(videos, key=lambda v: v.id)
    cases = {(v.id, k): compare(v, tracks.get(v.id, ()), k) for v in videos for k in labels}

    def over(
        place: int,
        thresholds: Sequence[float] = THRESHOLDS,
        of: Sequence[GroundTruthVideo] = videos,
        labels: Sequence[int] = labels,
        most: int = 100,
        area: tuple[float, float] = (0, 1e10),
    ) -> float:
        chosen = [[cases[video.id, k] for video in of] for k in labels]
        return mean_percent([precision_and_recall(c, t, most, area) for c in chosen for t in thresholds], place)

    metrics = {
        "AP": over(0),
        "AP50": over(0, THRESHOLDS[:1]),
        "AP75": over(0, THRESHOLDS[5:6]),
        "AR1": over(1, most=1),
        "AR10": over(1, most=10),
    }
    per_category = {CATEGORIES[k]: over(0, labels=[k]) for k in labels}
    per_video = {video.id: over(0, of=[video]) for video in videos}
    per_size = {name: over(0, area=area) for name, area in ytvis.AREA_RANGES.items() if name != "all"}
    missing = {v.id for v in videos} - tracks.keys()
    ranges = ytvis.AREA_RANGES
    twelve = [metrics["AP"], metrics["AP50"], metrics["AP75"], *per_size.values()]
    twelve += [over(1, most=most) for most in (1, 10, 100)]
    twelve += [over(1, area=ranges[name]) for name in per_size]
    official = {n: -1 if math.isnan(v) else v / 100 for n, v in zip(OFFICIAL, twelve, strict=True)}
    return Evaluation(
        metrics,
        {k: v for k, v in per_category.items() if not math.isnan(v)},
        {k: v for k, v in per_video.items() if not math.isnan(v)},
        per_size,
        tuple(sorted(missing)),
        official,
    )


def test_evaluate_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = {"all": (0, 1e10), "small": (0, 6), "medium": (6, 15), "large": (15, 1e10)}
    monkeypatch.setattr(ytvis, "AREA_RANGES", ranges)
    rng = np.random.default_rng(0)
    defined = 0
    for _ in range(120):
        videos, predictions = random_case(rng)
        ours, expected = evaluate(videos, predictions, CATEGORIES), reference(videos, predictions)
        assert ours.without_prediction == expected.without_prediction
        for field in ("metrics", "per_category", "per_video", "per_size", "official"):
            assert getattr(ours, field) == pytest.approx(getattr(expected, field), abs=1e-11, rel=0, nan_ok=True), field
        defined += 0 < ours.metrics["AP"] < 100
    assert defined > 60


def as_prediction(video: GroundTruthVideo) -> VideoPrediction:
    tracks = [Track(track.label, 1 - 0.01 * n, tuple(track.segmentations)) for n, track in enumerate(video.tracks)]
    return VideoPrediction(video.id, tuple(tracks))


def copied_case(seed: int) -> tuple[list[GroundTruthVideo], list[VideoPrediction]]:
    """Videos in which every class has few, different instances, and their own annotations as predictions."""
    rng = np.random.default_rng(seed)
    videos = []
    for video_id in range(4):
        tubes = [rng.random((3, 6, 7)) < 0.5 for _ in range(3)]
        videos.append(video_of(video_id, tubes, rng.integers(0, 2, 3).tolist()))
    return videos, [as_prediction(video) for video in videos]


def test_the_ground_truth_itself_is_perfect() -> None:
    videos, predictions = copied_case(0)
    result = evaluate(videos, predictions, CATEGORIES)
    for name in ("AP", "AP50", "AP75", "AR10"):
        assert result.metrics[name] == pytest.approx(100, abs=1e-9)
    assert result.metrics["AR1"] < 100
    assert result.per_category == pytest.approx({"circle": 100, "square": 100})
    assert result.per_video == pytest.approx({video.id: 100 for video in videos})
    assert result.without_prediction == ()


def test_a_tracker_that_swaps_identities_loses_ap() -> None:
    left, right = row_of_pixels(0, 5, length=4), row_of_pixels(10, 15, length=4)
    swapped = [np.concatenate([a[:2], b[2:]]) for a, b in ((left, right), (right, left))]
    prediction = VideoPrediction(1, tuple(predicted_track(tube) for tube in swapped))
    # Each swapped tube shares half its pixels with each instance: 10 of 30, no match at any threshold.
    assert evaluate([video_of(1, [left, right])], [prediction], CATEGORIES).metrics["AP"] == 0
    late = [np.concatenate([a[:3], b[3:]]) for a, b in ((left, right), (right, left))]
    prediction = VideoPrediction(1, tuple(predicted_track(tube) for tube in late))
    # A swap in the last of four frames leaves 15 of 25 pixels: 0.6, that is 3 of 10 thresholds.
    result = evaluate([video_of(1, [left, right])], [prediction], CATEGORIES)
    assert result.metrics["AP"] == pytest.approx(30)


@pytest.mark.parametrize(("shared", "thresholds"), [(9, 0), (10, 1), (11, 2), (12, 3), (15, 6), (19, 10), (20, 10)])
def test_an_iou_equal_to_the_threshold_counts(shared: int, thresholds: int) -> None:
    # The first `shared` of 20 pixels: IoU shared / 20, so 12 is exactly 0.6 and counts for 0.5, 0.55 and 0.6.
    prediction = VideoPrediction(1, (predicted_track(row_of_pixels(0, shared)),))
    result = evaluate([video_of(1, [row_of_pixels(0, 20)])], [prediction], CATEGORIES)
    assert result.metrics["AP"] == pytest.approx(10 * thresholds)
    assert result.metrics["AP50"] == pytest.approx(100 if shared >= 10 else 0)
    assert result.metrics["AP75"] == pytest.approx(100 if shared >= 15 else 0)


def test_a_wrong_track_before_the_right_one_halves_precision() -> None:
    video = video_of(1, [row_of_pixels(0, 5)])
    wrong, right = row_of_pixels(10, 15), row_of_pixels(0, 5)
    prediction = VideoPrediction(1, (predicted_track(wrong, score=0.9), predicted_track(right, score=0.8)))
    result = evaluate([video], [prediction], CATEGORIES)
    assert result.metrics["AP"] == pytest.approx(50)
    assert result.metrics["AR1"] == 0
    assert result.metrics["AR10"] == pytest.approx(100)


def test_half_of_the_instances_found_gives_51_of_101_points() -> None:
    videos = [video_of(n, [row_of_pixels(0, 5)]) for n in (1, 2)]
    prediction = VideoPrediction(2, (predicted_track(row_of_pixels(0, 5)),))
    result = evaluate(videos, [prediction], CATEGORIES)
    assert result.metrics["AP"] == pytest.approx(100 * 51 / 101)
    assert result.metrics["AR10"] == pytest.approx(50)
    assert result.per_video == pytest.approx({1: 0, 2: 100})
    assert result.without_prediction == (1,)


def test_the_size_of_a_track_is_its_mean_area_where_it_is_seen() -> None:
    tubes = np.zeros((3, 2, 300, 300), bool)
    tubes[0, 0, :100, :100] = True  # seen in one of two frames: 10,000, small
    tubes[1, :, 100:250, :150] = True  # 22,500, medium
    tubes[2, :, :, 280:] = True  # 6,000, small
    prediction = VideoPrediction(1, (predicted_track(tubes[0]),))
    result = evaluate([video_of(1, list(tubes))], [prediction], CATEGORIES)
    assert result.per_size["small"] == pytest.approx(100 * 51 / 101)
    assert result.per_size["medium"] == 0
    assert math.isnan(result.per_size["large"])


def test_a_crowd_is_neither_found_nor_missed() -> None:
    crowd = truth_track(row_of_pixels(10, 20), iscrowd=True)
    video = GroundTruthVideo(1, 1, 20, 2, [truth_track(row_of_pixels(0, 5)), crowd])
    right = predicted_track(row_of_pixels(0, 5), score=0.1)
    alike = [predicted_track(row_of_pixels(10, 20), score=0.9) for n in range(3)]
    assert evaluate([video], [VideoPrediction(1, (*alike, right))], CATEGORIES).metrics["AP"] == pytest.approx(100)
    # Not COCO's rule: a track inside the crowd has to cover half of it, as any other.
    inside = [predicted_track(row_of_pixels(10, 14), score=0.9)]
    assert evaluate([video], [VideoPrediction(1, (*inside, right))], CATEGORIES).metrics["AP"] == pytest.approx(50)


def test_no_prediction_is_zero_and_says_so() -> None:
    videos, _ = copied_case(1)
    for predictions in ([], [VideoPrediction(video.id, ()) for video in videos]):
        result = evaluate(videos, predictions, CATEGORIES)
        assert set(result.metrics.values()) == {0.0}
        assert set(result.per_video.values()) == {0.0}
    assert "4 video(s) without prediction" in str(evaluate(videos, [], CATEGORIES))


def test_no_instance_is_undefined_and_says_so() -> None:
    empty = GroundTruthVideo(1, 1, 20, 2, [])
    crowd = GroundTruthVideo(2, 1, 20, 2, [truth_track(row_of_pixels(0, 5), iscrowd=True)])
    prediction = VideoPrediction(1, (predicted_track(row_of_pixels(0, 5)),))
    for videos, predictions in (([], []), ([empty], [prediction]), ([empty, crowd], [])):
        result = evaluate(videos, predictions, CATEGORIES)
        assert all(math.isnan(value) for value in result.metrics.values())
        assert result.per_category == result.per_video == {}
        assert "the ground truth has no instance" in str(result)
    assert "nan" not in str(result)


def test_a_track_without_a_pixel_only_costs_precision() -> None:
    video = video_of(1, [row_of_pixels(0, 5)])
    tracks = (Track(0, 0.9, (None, None)), predicted_track(row_of_pixels(0, 5)))
    assert evaluate([video], [VideoPrediction(1, tracks)], CATEGORIES).metrics["AP"] == pytest.approx(50)


def test_evaluate_is_silent_and_its_text_has_all_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    videos, predictions = copied_case(2)
    text = str(evaluate(videos, predictions, CATEGORIES))
    assert capsys.readouterr() == ("", "")
    for part in ("AP 100.00", "AP50 100.00", "AR1 ", "small 100.00", "large undefined", "circle  100.00"):
        assert part in text
    assert "star" not in text


def test_an_evaluator_takes_videos_in_any_order_and_keeps_no_mask() -> None:
    rng = np.random.default_rng(5)
    tubes = [[rng.random((20, 60, 60)) < 0.5 for _ in range(2)] for _ in range(3)]
    videos = [video_of(n, two) for n, two in enumerate(tubes)]
    evaluator = Evaluator(CATEGORIES)
    for video in videos[::-1]:
        evaluator.add(video, as_prediction(video))
    predictions = [as_prediction(video) for video in videos]
    ours, whole = evaluator.result(), evaluate(videos, predictions, CATEGORIES)
    assert (ours.official, ours.per_video) == (whole.official, whole.per_video)
    assert len(pickle.dumps(evaluator)) < len(pickle.dumps(predictions)) / 20
    with pytest.raises(DataError, match="a video is given twice"):
        evaluator.add(videos[0])


def test_the_size_is_that_of_the_areas_in_the_file() -> None:
    track = dataclasses.replace(truth_track(row_of_pixels(0, 5)), areas=[None, 128.0**2])
    video = GroundTruthVideo(1, 1, 20, 2, [track])
    result = evaluate([video], [as_prediction(video)], CATEGORIES)
    assert result.per_size["small"] == result.per_size["medium"] == pytest.approx(100)  # both bounds belong to a bin


def test_an_annotation_with_id_0_is_never_counted_as_found() -> None:
    track = dataclasses.replace(truth_track(row_of_pixels(0, 5)), id=0)
    video = GroundTruthVideo(1, 1, 20, 2, [track])
    assert evaluate([video], [as_prediction(video)], CATEGORIES).metrics["AP"] == 0


def test_a_video_over_the_limits_is_refused() -> None:
    for video in (GroundTruthVideo(1, 10_000, 10_000, 1, []), GroundTruthVideo(1, 10, 10**7, 2, [])):
        with pytest.raises(DataError, match=r"ground truth of video 1.*over the limits"):
            evaluate([video], [], CATEGORIES)


def test_evaluate_leaves_its_input_alone() -> None:
    videos, predictions = copied_case(3)
    first = evaluate(videos, predictions, CATEGORIES)
    again = evaluate(videos, predictions, CATEGORIES)
    assert first.metrics == again.metrics
    assert evaluate(videos[::-1], predictions[::-1], CATEGORIES).metrics == first.metrics


def broken(change: str) -> tuple[list[GroundTruthVideo], list[VideoPrediction]]:
    video = video_of(7, [row_of_pixels(0, 5)])
    track = predicted_track(row_of_pixels(0, 5))
    damaged: RLE = {"size": [1, 20], "counts": "9"}
    other_size = masks.encode(np.ones((20, 1), bool))
    tracks = {
        "frames": dataclasses.replace(track, masks=track.masks[:1]),
        "label": dataclasses.replace(track, label=3),
        "negative label": dataclasses.replace(track, label=-1),
        "score": dataclasses.replace(track, score=math.nan),
        "mask": dataclasses.replace(track, masks=(None, damaged)),
        "size": dataclasses.replace(track, masks=(None, other_size)),
    }
    predictions = [VideoPrediction(8 if change == "unknown" else 7, (tracks.get(change, track),))]
    if change == "truth":
        video = dataclasses.replace(video, tracks=[GroundTruthTrack(0, [damaged, None])])
    if change == "twice":
        predictions *= 2
    return [video, video] if change == "truth twice" else [video], predictions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("unknown", "predictions: 1 video(s) not in the ground truth, the first is 8"),
        ("twice", "predictions: a video is given twice"),
        ("truth twice", "ground truth: a video is given twice"),
        ("frames", "prediction for video 7, track 0: has 1 frames, the video 2"),
        ("label", "prediction for video 7, track 0: class index 3 is not in 0 .. 2"),
        ("negative label", "class index -1 is not in 0 .. 2"),
        ("score", "prediction for video 7, track 0: score is nan"),
        ("mask", "prediction for video 7, track 0, frame 1: damaged mask"),
        (
            "size",
            "prediction for video 7, track 0, frame 1: the mask is 20 x 1, its video 1 x 20: height and",
        ),
        ("truth", "ground truth of video 7, track 0, frame 0: damaged mask"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(change: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(*broken(change), CATEGORIES)
    assert message in str(caught.value)
    assert "Fix: " in str(caught.value)


class ReadVideo(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.file_names)


def test_ground_truth_takes_rles_polygons_and_gaps() -> None:
    square = np.zeros((6, 7), bool)
    square[1:4, 2:5] = True
    rle = masks.encode(square)
    track = SimpleNamespace(
        label=2,
        iscrowd=0,
        segmentations=(rle, [[2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]], None, []),
        mean_area=None,
        mask=lambda t: square,
    )
    video = ReadVideo(id=5, height=6, width=7, file_names=("a", "b", "c", "d"), tracks=(track,))
    expected = GroundTruthVideo(5, 6, 7, 4, [GroundTruthTrack(2, [rle, rle, None, None])])
    assert ground_truth(SimpleNamespace(videos=(video,))) == [expected]  # type: ignore[arg-type]
