"""The YouTube-VIS metric (Yang et al., Video Instance Segmentation, ICCV 2019), video by video.

The numbers are those of the official evaluator (YTVOSeval of the YouTube-VIS API): tube IoU, without COCO's rule for
crowds; the mean area of a track where it is seen decides its size. An :class:`Evaluator` holds no mask: of a video it
keeps scores and which track has found what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from syncvis.errors import DataError
from syncvis.evaluation import errors, matching, occlusion, tracking
from syncvis.evaluation.errors import Fault, Judged
from syncvis.evaluation.matching import Candidates, Floats, Matches
from syncvis.evaluation.overlaps import Overlap, compare, truth_boxes
from syncvis.evaluation.summary import Details, Evaluation, defined, mean, official
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo, ground_truth
from syncvis.structures import Track, VideoPrediction

__all__ = ["Evaluation", "Evaluator", "GroundTruthTrack", "GroundTruthVideo", "evaluate", "ground_truth"]

# Mean area, in pixels, of a track over the frames it is seen in (YTVOSeval of the YouTube-VIS API).
AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 128.0**2),
    "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}
MAX_TRACKS = (1, 10, 100)
LENGTHS = {"1-16": 16, "17-32": 32, "33-64": 64, "65-": 2**63}  # frames of a video, at most

Item = TypeVar("Item")


def evaluate(
    ground_truth: Sequence[GroundTruthVideo],
    predictions: Sequence[VideoPrediction],
    categories: Sequence[str],
    details: bool = False,
) -> Evaluation:
    """Compare predicted with annotated tracks.

    Args:
        ground_truth: All videos of the split; one that has no prediction counts as a video without a track.
        predictions: At most one for each video. Of each class the best 100 tracks of a video count.
        categories: K names, in the order of the class indices.
        details: also what the official evaluator does not say, see :class:`Details`.

    Raises:
        DataError: A video is unknown or given twice; a track has the wrong number of frames, a class index
            out of range or a score that is not finite; a mask is damaged or not of the size of its video.
    """
    predicted = _unique({p.video_id: p for p in predictions}, predictions, "predictions")
    if unknown := sorted(predicted.keys() - {video.id for video in ground_truth}):
        raise DataError(
            f"{len(unknown)} video(s) not in the ground truth, the first is {unknown[0]}",
            file="predictions",
            fix="evaluate predictions of the same split",
        )
    evaluator = Evaluator(categories, details)
    for video in ground_truth:
        evaluator.add(video, predicted.get(video.id))
    return evaluator.result()


def _unique(by_id: dict[int, Item], items: Sequence[Item], source: str) -> dict[int, Item]:
    if len(by_id) < len(items):
        raise DataError("a video is given twice", file=source, fix="give every video once")
    return by_id


class Evaluator:
    """Takes one video after the other, in any order, and keeps no mask.

    Args:
        categories: K names, in the order of the class indices.
        details: also collect :class:`Details`; about twice the time.
    """

    def __init__(self, categories: Sequence[str], details: bool = False) -> None:
        self.categories, self.details = list(categories), details
        self._matches: dict[int, dict[int, Matches]] = {}  # of each video, of each class
        self._without: list[int] = []
        self._lengths: dict[int, str] = {}
        self._occlusions: dict[int, str] = {}
        self._faults: list[Fault] = []
        self._identities: list[tracking.Identities] = []

    def add(self, video: GroundTruthVideo, prediction: VideoPrediction | None = None) -> None:
        """Compare the tracks of one video; None is a video that the predictions do not mention.

        Raises:
            DataError: As :func:`evaluate`.
        """
        if video.id in self._matches:
            raise DataError("a video is given twice", file="ground truth", fix="give every video once")
        if prediction is None:
            self._without.append(video.id)
        tracks = () if prediction is None else prediction.tracks
        overlap = compare(video, tracks, len(self.categories), self.details)
        judged = _judge(video, tracks, overlap)
        self._matches[video.id] = {label: one.matches for label, one in judged.items()}
        if self.details:
            self._add_details(video, tracks, overlap, judged)

    def _add_details(
        self, video: GroundTruthVideo, tracks: Sequence[Track], overlap: Overlap, judged: Mapping[int, Judged]
    ) -> None:
        labels = np.array([track.label for track in video.tracks], np.int64)
        crowds = np.array([track.iscrowd for track in video.tracks], bool)
        scores = np.array([track.score for track in tracks], float)
        self._lengths[video.id] = next(name for name, most in LENGTHS.items() if video.length <= most)
        self._occlusions[video.id] = occlusion.level(occlusion.overlap_rate(truth_boxes(video)[~crowds]))
        self._faults += errors.faults(video.id, overlap, labels, crowds, judged)
        self._identities.append(tracking.identities(overlap, scores, crowds))

    def merge(self, other: Evaluator) -> None:
        """Take over the videos of another evaluator with the same categories, such as that of another process.

        Raises:
            DataError: Both have seen the same video.
        """
        if self._matches.keys() & other._matches.keys():
            raise DataError("a video is given twice", file="ground truth", fix="give every video once")
        self._matches |= other._matches
        self._lengths |= other._lengths
        self._occlusions |= other._occlusions
        self._without += other._without
        self._faults += other._faults
        self._identities += other._identities

    def result(self) -> Evaluation:
        """The metrics of all videos so far."""
        by_class = [self._of_class(label, self._matches) for label in range(len(self.categories))]
        curves = [matching.curve(matches or [_nothing()]) for matches in by_class]
        recalls = {most: [matching.recall(m or [_nothing()], most) for m in by_class] for most in MAX_TRACKS}
        values = official(curves, recalls)
        per_category = {name: 100 * mean(c.precision[0]) for name, c in zip(self.categories, curves, strict=True)}
        return Evaluation(
            metrics={name: 100 * values[name] for name in ("AP", "AP50", "AP75", "AR1", "AR10")},
            per_category=defined(per_category),
            per_video=defined({video_id: 100 * self._ap([video_id]) for video_id in sorted(self._matches)}),
            per_size={name: 100 * values["AP" + name[0]] for name in AREA_RANGES if name != "all"},
            without_prediction=tuple(sorted(self._without)),
            official={name: -1.0 if np.isnan(value) else value for name, value in values.items()},
            details=self._details() if self.details else None,
        )

    def _of_class(self, label: int, videos: Iterable[int]) -> list[Matches]:
        """In the order of the video ids, which decides between equal scores."""
        return [self._matches[v][label] for v in sorted(videos) if label in self._matches[v]]

    def _ap(self, videos: Sequence[int]) -> float:
        """AP of some videos, 0 to 1: the mean over the categories with an instance in them."""
        labels = sorted({label for v in videos for label in self._matches[v]})
        of_labels = [[m.first_range() for m in self._of_class(label, videos)] for label in labels]
        precisions = [_precision(matches) for matches in of_labels if sum(m.instances[0] for m in matches)]
        return mean(np.array(precisions))

    def _details(self) -> Details:
        matches = {label: self._of_class(label, self._matches) for label in range(len(self.categories))}
        return Details(
            per_length=self._ap_by(self._lengths, LENGTHS),
            per_occlusion=self._ap_by(self._occlusions, occlusion.LEVELS),
            errors=errors.gains(self._faults, {label: found for label, found in matches.items() if found}),
            tracking=tracking.total(self._identities).rates(),
        )

    def _ap_by(self, group_of: Mapping[int, str], names: Iterable[str]) -> dict[str, float]:
        groups = {name: [video for video, group in group_of.items() if group == name] for name in names}
        return defined({name: 100 * self._ap(videos) for name, videos in groups.items()})


def _precision(matches: Sequence[Matches]) -> float:
    """Mean over thresholds and recall levels of one class that has an instance."""
    if not any(m.hits.any() for m in matches):
        return 0.0
    return mean(matching.curve(matches).precision)


def _nothing() -> Matches:
    none = np.zeros((len(AREA_RANGES), len(matching.THRESHOLDS), 0), bool)
    return Matches(np.zeros(0), none, none, np.zeros(len(AREA_RANGES), np.int64), np.zeros(none.shape[1:], np.int64))


def _judge(video: GroundTruthVideo, tracks: Sequence[Track], overlap: Overlap) -> dict[int, Judged]:
    """The matches of every class that occurs in the video."""
    labels = np.array([track.label for track in tracks], int)
    truth_labels = np.array([track.label for track in video.tracks], int)
    scores = np.array([track.score for track in tracks], float)
    order = np.argsort(-scores, kind="stable")
    areas, truth_areas = _mean_areas(overlap.found), _truth_areas(video, overlap)
    crowds = np.array([track.iscrowd for track in video.tracks], bool)
    countable = np.array([track.id != 0 for track in video.tracks], bool)
    ious = overlap.tube_ious()
    judged = {}
    for label in sorted({*labels.tolist(), *truth_labels.tolist()}):
        own = order[labels[order] == label][: matching.MOST_TRACKS]
        there = np.flatnonzero(truth_labels == label)
        candidates = Candidates(
            scores[own], areas[own], ious[np.ix_(own, there)], truth_areas[there], crowds[there], countable[there]
        )
        judged[label] = Judged(matching.match(candidates, list(AREA_RANGES.values())), own, there)
    return judged


def _mean_areas(areas: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Floats:
    """(N, T) -> (N,) mean over the frames with a pixel, 0 without one."""
    means: Floats = areas.sum(axis=1) / np.maximum((areas > 0).sum(axis=1), 1)
    return means


def _truth_areas(video: GroundTruthVideo, overlap: Overlap) -> Floats:
    """(G,) likewise, of the areas that the file gives, if it does."""
    means = _mean_areas(overlap.truth)
    for g, track in enumerate(video.tracks):
        if track.areas is not None:
            seen = [area for area in track.areas if area]
            means[g] = np.mean(seen) if seen else 0.0
    return means
