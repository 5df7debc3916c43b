"""YouTube-VIS average precision on pycocotools.

A track is joined to one tube: a COCO mask as wide as all frames together. A video is then one COCO image, and
COCO's evaluation that of the YouTube-VIS server (Yang et al., Video Instance Segmentation, ICCV 2019).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from syncvis.errors import DataError
from syncvis.ops import masks
from syncvis.structures import RLE, VideoPrediction

# Mean area, in pixels, of a track over the frames it is seen in (YTVOSeval of the YouTube-VIS API).
AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 128.0**2),
    "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}
MAX_TRACKS = (1, 10, 100)

Item = TypeVar("Item")
Key = TypeVar("Key")
_AP50, _AP75 = 0, 5  # places in COCO's thresholds 0.5, 0.55 .. 0.95


@dataclass(frozen=True)
class GroundTruthTrack:
    """An annotated instance: class index 0 .. K-1 and one RLE per frame, None where it is not seen."""

    label: int
    segmentations: Sequence[RLE | None]
    iscrowd: bool = False


@dataclass(frozen=True)
class GroundTruthVideo:
    """The annotated instances of a video of ``length`` frames, ``height`` x ``width`` pixels."""

    id: int
    height: int
    width: int
    length: int
    tracks: Sequence[GroundTruthTrack]


class AnnotatedTrack(Protocol):
    """An instance as the data set's reader gives it; ``segmentations`` has RLEs, polygons or None."""

    @property
    def label(self) -> int: ...
    @property
    def iscrowd(self) -> bool: ...
    @property
    def segmentations(self) -> Sequence[Any]: ...
    def mask(self, t: int, /) -> NDArray[np.bool_]: ...


class AnnotatedVideo(Protocol):
    """A video as the data set's reader gives it; its length is its number of frames."""

    @property
    def id(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def tracks(self) -> Sequence[AnnotatedTrack]: ...
    def __len__(self) -> int: ...


class AnnotatedDataset(Protocol):
    """What :func:`ground_truth` needs of a data set."""

    @property
    def videos(self) -> Sequence[AnnotatedVideo]: ...


def ground_truth(dataset: AnnotatedDataset) -> list[GroundTruthVideo]:
    """The annotations of a data set (``data.ytvis.VideoDataset``) in the form that :func:`evaluate` takes.

    Raises:
        DataError: A polygon is damaged.
    """
    return [
        GroundTruthVideo(video.id, video.height, video.width, len(video), [_annotated(t) for t in video.tracks])
        for video in dataset.videos
    ]


def _annotated(track: AnnotatedTrack) -> GroundTruthTrack:
    frames = [_frame(track, t, segmentation) for t, segmentation in enumerate(track.segmentations)]
    return GroundTruthTrack(track.label, frames, bool(track.iscrowd))


def _frame(track: AnnotatedTrack, t: int, segmentation: Any) -> RLE | None:
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        return RLE(size=segmentation["size"], counts=segmentation["counts"])
    return masks.encode(track.mask(t))


@dataclass(frozen=True)
class Evaluation:
    """Average precision and recall in percent.

    A value is NaN, that is undefined, where the ground truth has no instance to find (crowds do not count).

    Attributes:
        metrics: AP, AP50, AP75, AR1, AR10.
        per_category: AP of every category that has an instance.
        per_video: AP of every video that has an instance, over its own tracks: the mean over its categories.
        per_size: AP of small, medium and large instances; see :data:`AREA_RANGES`.
        without_prediction: videos that the predictions do not mention; they count as videos without a track.
    """

    metrics: dict[str, float]
    per_category: dict[str, float]
    per_video: dict[int, float]
    per_size: dict[str, float]
    without_prediction: tuple[int, ...] = ()

    def __str__(self) -> str:
        width = max((len(name) for name in self.per_category), default=0)
        lines = [_row(self.metrics), "AP by size: " + _row(self.per_size), "AP by category:"]
        lines += [f"  {name:{width}}  {_percent(value)}" for name, value in self.per_category.items()]
        if not self.per_category:
            lines.append("  none: the ground truth has no instance, so AP and AR are undefined")
        if self.without_prediction:
            lines.append(f"{len(self.without_prediction)} video(s) without prediction")
        return "\n".join(lines)


def _row(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {_percent(value)}" for name, value in values.items())


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def evaluate(
    ground_truth: Sequence[GroundTruthVideo],
    predictions: Sequence[VideoPrediction],
    categories: Sequence[str],
) -> Evaluation:
    """Compare predicted with annotated tracks.

    Args:
        ground_truth: All videos of the split; one that has no prediction counts as a video without a track.
        predictions: At most one for each video. Of each class the best 100 tracks of a video count.
        categories: K names, in the order of the class indices.

    Raises:
        DataError: A video is unknown or given twice; a track has the wrong number of frames, a class index
            out of range or a score that is not finite; a mask is damaged or not of the size of its video.
    """
    videos = _unique({video.id: video for video in ground_truth}, ground_truth, "ground truth")
    predicted = _unique({p.video_id: p for p in predictions}, predictions, "predictions")
    if unknown := sorted(predicted.keys() - videos.keys()):
        raise DataError(
            f"{len(unknown)} video(s) not in the ground truth, the first is {unknown[0]}",
            file="predictions",
            fix="evaluate predictions of the same split",
        )
    truth = [_truth(video, n, len(categories)) for video in ground_truth for n in range(len(video.tracks))]
    found = [
        _found(videos[prediction.video_id], prediction, n, len(categories))
        for prediction in predictions
        for n in range(len(prediction.tracks))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = _run_coco(ground_truth, truth, found, len(categories))
        per_video = {video.id: _video_ap(evaluator, video) for video in ground_truth}
    without_prediction = tuple(sorted(videos.keys() - predicted.keys()))
    return _summarise(evaluator, categories, per_video, without_prediction)


def _unique(by_id: dict[int, Item], items: Sequence[Item], source: str) -> dict[int, Item]:
    if len(by_id) < len(items):
        raise DataError("a video is given twice", file=source, fix="give every video once")
    return by_id


def _truth(video: GroundTruthVideo, n: int, num_categories: int) -> dict[str, Any]:
    track = video.tracks[n]
    where = f"ground truth of video {video.id}, track {n}"
    tube = _tube(video, track.label, track.segmentations, num_categories, where)
    return {**tube, "iscrowd": int(track.iscrowd)}


def _found(video: GroundTruthVideo, prediction: VideoPrediction, n: int, num_categories: int) -> dict[str, Any]:
    track = prediction.tracks[n]
    where = f"prediction for video {video.id}, track {n}"
    if not math.isfinite(track.score):
        raise DataError(f"score is {track.score}", file=where, fix="give a finite score")
    return {**_tube(video, track.label, track.masks, num_categories, where), "score": float(track.score)}


def _tube(
    video: GroundTruthVideo, label: int, frames: Sequence[RLE | None], num_categories: int, where: str
) -> dict[str, Any]:
    """The COCO annotation of a track."""
    if not 0 <= label < num_categories:
        raise DataError(
            f"class index {label} is not in 0 .. {num_categories - 1}",
            file=where,
            fix="use the split's categories",
        )
    if len(frames) != video.length:
        raise DataError(
            f"has {len(frames)} frames, the video {video.length}",
            file=where,
            fix="give one mask (or null) for every frame",
        )
    tube = masks.concat_frames(frames, video.height, video.width, where)
    seen = sum(1 for frame in frames if frame is not None and masks.area(frame))
    area = masks.area(tube) / max(seen, 1)
    return {"image_id": video.id, "category_id": label, "segmentation": tube, "area": area}


def _run_coco(
    videos: Sequence[GroundTruthVideo],
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    num_categories: int,
) -> COCOeval:
    images = [{"id": v.id, "height": v.height, "width": v.width * v.length} for v in videos]
    evaluator = COCOeval(_coco(images, truth, num_categories), _coco(images, found, num_categories), "segm")
    evaluator.params.areaRng = list(AREA_RANGES.values())
    evaluator.params.areaRngLbl = list(AREA_RANGES)
    evaluator.params.maxDets = list(MAX_TRACKS)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def _coco(images: list[dict[str, int]], annotations: Iterable[Mapping[str, Any]], num_categories: int) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": [{"id": label} for label in range(num_categories)],
        # COCOeval takes id 0 for "not matched".
        "annotations": [{**annotation, "id": n} for n, annotation in enumerate(annotations, 1)],
    }
    coco.createIndex()
    return coco


def _video_ap(evaluator: COCOeval, video: GroundTruthVideo) -> float:
    """AP of one video, accumulated anew from the matches that the whole evaluation has made."""
    image_ids, area_ranges = evaluator.params.imgIds, evaluator.params.areaRng
    labels = sorted({track.label for track in video.tracks})
    part = COCOeval(iouType="segm")
    part.params.imgIds, part.params.catIds = [video.id], labels
    part.params.areaRng, part.params.maxDets = area_ranges[:1], evaluator.params.maxDets[-1:]
    part._paramsEval = part.params
    # evalImgs is a flat list over category, area range, image; "all" is the first range.
    place = image_ids.index(video.id)
    part.evalImgs = [evaluator.evalImgs[label * len(area_ranges) * len(image_ids) + place] for label in labels]
    part.accumulate()
    return _mean(part.eval["precision"])


def _summarise(
    evaluator: COCOeval,
    categories: Sequence[str],
    per_video: Mapping[int, float],
    without_prediction: tuple[int, ...],
) -> Evaluation:
    precision = evaluator.eval["precision"][..., -1]  # (thresholds, recalls, categories, areas), best 100 tracks
    recall = evaluator.eval["recall"][:, :, 0]  # (thresholds, categories, most tracks)
    metrics = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[_AP50, ..., 0]),
        "AP75": _mean(precision[_AP75, ..., 0]),
        "AR1": _mean(recall[..., MAX_TRACKS.index(1)]),
        "AR10": _mean(recall[..., MAX_TRACKS.index(10)]),
    }
    per_category = {name: _mean(precision[:, :, k, 0]) for k, name in enumerate(categories)}
    per_size = {name: _mean(precision[..., a]) for a, name in enumerate(AREA_RANGES) if name != "all"}
    return Evaluation(metrics, _defined(per_category), _defined(per_video), per_size, without_prediction)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean in percent over the categories that have an instance; COCOeval marks the others with -1."""
    defined = values[values > -1]
    return 100 * float(defined.mean()) if defined.size else math.nan


def _defined(values: Mapping[Key, float]) -> dict[Key, float]:
    return {key: value for key, value in values.items() if not math.isnan(value)}
