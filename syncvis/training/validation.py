"""Evaluating a model on a split, video by video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from syncvis.config import RunConfig
from syncvis.data.annotations import class_names
from syncvis.data.loader import video_chunks
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.distributed import any_process, gather, rank, world_size
from syncvis.errors import Interrupted
from syncvis.evaluation import tracking
from syncvis.evaluation.overlaps import all_tubes, overlap, truth_tubes
from syncvis.evaluation.tracking import Identities
from syncvis.evaluation.ytvis import Evaluation, Evaluator, GroundTruthVideo, ground_truth
from syncvis.methods.base import Method
from syncvis.structures import VideoPrediction
from syncvis.training.inference import chunk_length, predict_chunks
from syncvis.training.overlays import MAX_VIDEOS
from syncvis.training.step import Row

SIZE_DIVISOR = 32


class Validation:
    """Evaluates a model, as it stands when called, on one split; keeps the last evaluation and few predictions.

    Several processes predict different videos; all get the metrics of the whole split.

    Args:
        should_stop: asked before each video; True in any process ends the evaluation in all.
        digests: as of :class:`syncvis.data.loader.TrainClips`.
    """

    def __init__(
        self,
        model: Method,
        dataset: VideoDataset,
        config: RunConfig,
        device: torch.device,
        should_stop: Callable[[], bool] = lambda: False,
        digests: bool = False,
    ) -> None:
        self.model, self.dataset, self.config, self.device = model, dataset, config, device
        self.should_stop, self.digests = should_stop, digests
        self._truth = ground_truth(dataset)
        self._latest: tuple[Evaluation, list[VideoPrediction]] | None = None
        self._identities: dict[int, Identities] = {}

    def __call__(self) -> Row:
        """Metrics by name; raises Interrupted in all processes if one should stop."""
        evaluator, shown = self.evaluator(), {video.id for video in self.dataset.videos[:MAX_VIDEOS]}
        self._identities = {}
        kept = [prediction for prediction in self.stream(evaluator) if prediction.video_id in shown]
        first, *others = gather(evaluator)
        for other in others:
            first.merge(other)
        self._latest = first.result(), [prediction for part in gather(kept) for prediction in part]
        return self._latest[0].metrics

    def evaluator(self) -> Evaluator:
        """One that has seen no video."""
        return Evaluator(class_names(self.dataset.categories))

    def stream(self, evaluator: Evaluator) -> Iterator[VideoPrediction]:
        """Predict this process's videos one by one and hand them to the evaluator; raises as a call does."""
        stopped = False
        for n in range(rank(), len(self.dataset.videos), world_size()):
            stopped = stopped or self.should_stop()
            if not stopped:
                prediction = self._predict(self.dataset.videos[n])
                evaluator.add(self._truth[n], prediction)
                self._identities[prediction.video_id] = _identities(self._truth[n], prediction)
                yield prediction
        if any_process(stopped):
            raise Interrupted("stopped in an evaluation", fix="run the same command to continue")

    def _predict(self, video: Video) -> VideoPrediction:
        return predict_one(self.model, self.dataset, video, self.config, self.device, self.digests)

    def latest(self) -> tuple[Evaluation, list[VideoPrediction]]:
        """The last evaluation and the predictions of the first videos.

        They are made now if this object has made none, as after a resume at the very end.
        """
        if self._latest is None:
            self.model.eval()
            self()
        assert self._latest is not None
        return self._latest

    def tracking(self) -> dict[str, Any]:
        """Of the last evaluation, over all videos and of each, as :class:`RunResult` has it. All processes must ask."""
        found = dict(sorted(pair for part in gather(self._identities) for pair in part.items()))
        return {
            "tracking": tracking.total(found.values()).rates(),
            "per_video_tracking": {str(video): one.rates() for video, one in found.items()},
        }


def predict_one(
    model: Method,
    dataset: VideoDataset,
    video: Video,
    config: RunConfig,
    device: torch.device,
    digests: bool = False,
) -> VideoPrediction:
    """Predict one video of a data set at the test size of the config."""
    sizes = (config.data.test_short_side, config.data.test_max_size)
    chunks, resized = video_chunks(dataset, video, *sizes, chunk_length(device), SIZE_DIVISOR, digests)
    return predict_chunks(model, chunks, resized, (video.height, video.width), video.id, config.eval, device)


def _identities(truth: GroundTruthVideo, prediction: VideoPrediction) -> Identities:
    """Of the confident tracks alone, which are few."""
    tracks = [track for track in prediction.tracks if track.score >= tracking.MIN_SCORE]
    every = overlap(all_tubes(truth, tracks), truth_tubes(truth), truth.length)
    crowds = np.array([track.iscrowd for track in truth.tracks], bool)
    scores = np.array([track.score for track in tracks], float)
    return tracking.identities(every, scores, crowds)
