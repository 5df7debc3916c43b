"""The YouTube-VIS metric (Yang et al., Video Instance Segmentation, ICCV 2019), video by video.

The numbers are those of the official evaluator (YTVOSeval of the YouTube-VIS API): tube IoU, without COCO's rule for
crowds; the mean area of a track where it is seen decides its size. An :class:`Evaluator` holds no mask: of a video it
keeps scores and which track has found what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from syncvis.errors import DataError
from syncvis.evaluation import errors, occlusion, tracking
from syncvis.evaluation.errors import Fault
from syncvis.evaluation.judged import Judged, judge
from syncvis.evaluation.overlaps import all_tubes, check, overlap, truth_tubes
from syncvis.evaluation.summary import Details, Evaluation, defined, mean, official
from syncvis.evaluation.truth import GroundTruthTrack, GroundTruthVideo, ground_truth
from syncvis.predictions import Track, VideoPrediction

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

# Of tracks that are compared at once.
_BATCH_FRAMES = 50_000

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
    for videos in _batches(ground_truth, predicted, 1 if details else _BATCH_FRAMES):
        evaluator.add_all([(video, predicted.get(video.id)) for video in videos])
    return evaluator.result()


def _batches(
    videos: Sequence[GroundTruthVideo], predicted: Mapping[int, VideoPrediction], most: int
) -> Iterator[list[GroundTruthVideo]]:
    """Videos that together have about ``most`` frames of tracks."""
    batch, frames = [], 0
    for video in videos:
        batch.append(video)
        tracks = predicted[video.id].tracks if video.id in predicted else ()
        frames += video.length * (len(video.tracks) + len(tracks))
        if frames >= most:
            yield batch
            batch, frames = [], 0
    if batch:
        yield batch


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
        self._seen: set[int] = set()
        self._judged: list[Judged] = []
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
        self.add_all([(video, prediction)])

    def add_all(self, videos: Sequence[tuple[GroundTruthVideo, VideoPrediction | None]]) -> None:
        """The same for some videos at once, which is faster."""
        for video, prediction in videos:
            if video.id in self._seen:
                raise DataError("a video is given twice", file="ground truth", fix="give every video once")
            self._seen.add(video.id)
            if prediction is None:
                self._without.append(video.id)
        both = [(video, () if prediction is None else prediction.tracks) for video, prediction in videos]
        for video, tracks in both:
            check(video, tracks, len(self.categories))
        judged = judge(both, list(AREA_RANGES.values()))
        self._judged.append(judged)
        if self.details:
            for video, tracks in both:
                self._add_details(video, tracks, judged.of_video(video.id))

    def _add_details(self, video: GroundTruthVideo, tracks: Sequence[Track], judged: Judged) -> None:
        labels = np.array([track.label for track in video.tracks], np.int64)
        crowds = np.array([track.iscrowd for track in video.tracks], bool)
        scores = np.array([track.score for track in tracks], float)
        truth = truth_tubes(video)
        every = overlap(all_tubes(video, tracks), truth, video.length)
        boxes = np.array([tube.boxes for tube in truth], np.int64).reshape(-1, video.length, 4)
        self._lengths[video.id] = next(name for name, most in LENGTHS.items() if video.length <= most)
        self._occlusions[video.id] = occlusion.level(occlusion.overlap_rate(boxes[~crowds]))
        self._faults += errors.faults(video.id, every, labels, crowds, judged)
        self._identities.append(tracking.identities(every, scores, crowds))

    def merge(self, other: Evaluator) -> None:
        """Take over the videos of another evaluator with the same categories, such as that of another process.

        Raises:
            DataError: Both have seen the same video.
        """
        if self._seen & other._seen:
            raise DataError("a video is given twice", file="ground truth", fix="give every video once")
        self._seen |= other._seen
        self._judged += other._judged
        self._lengths |= other._lengths
        self._occlusions |= other._occlusions
        self._without += other._without
        self._faults += other._faults
        self._identities += other._identities

    def result(self) -> Evaluation:
        """The metrics of all videos so far."""
        judged = Judged.join(self._judged, len(AREA_RANGES))
        precision, recalls = judged.by_class(len(self.categories), MAX_TRACKS)
        values = official(precision, recalls)
        per_category = {name: 100 * float(p[0].mean()) for name, p in zip(self.categories, precision, strict=True)}
        return Evaluation(
            metrics={name: 100 * values[name] for name in ("AP", "AP50", "AP75", "AR1", "AR10")},
            per_category=defined(per_category),
            per_video={video_id: 100 * ap for video_id, ap in judged.by_video().items()},
            per_size={name: 100 * values["AP" + name[0]] for name in AREA_RANGES if name != "all"},
            without_prediction=tuple(sorted(self._without)),
            official={name: -1.0 if np.isnan(value) else value for name, value in values.items()},
            details=self._details(judged) if self.details else None,
        )

    def _details(self, judged: Judged) -> Details:
        return Details(
            per_length=self._ap_by(judged, self._lengths, LENGTHS),
            per_occlusion=self._ap_by(judged, self._occlusions, occlusion.LEVELS),
            errors=errors.gains(self._faults, judged),
            tracking=tracking.total(self._identities).rates(),
        )

    def _ap_by(self, judged: Judged, group_of: Mapping[int, str], names: Iterable[str]) -> dict[str, float]:
        groups = {name: [video for video, group in group_of.items() if group == name] for name in names}
        aps = {n: judged.of_videos(v).by_class(len(self.categories), ())[0][:, 0] for n, v in groups.items()}
        return defined({name: 100 * mean(ap) for name, ap in aps.items()})
