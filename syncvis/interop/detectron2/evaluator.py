"""Average precision of video instance segmentation as a detectron2 evaluator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from syncvis.data.annotations import class_names
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.evaluation.results import write_results
from syncvis.evaluation.ytvis import Evaluation, evaluate, ground_truth
from syncvis.ops import masks
from syncvis.structures import Track, VideoPrediction

_log = logging.getLogger(__name__)


class VideoEvaluator(DatasetEvaluator):
    """Collects the tracks of all videos and compares them with the annotations, as the YouTube-VIS server does.

    Args:
        dataset_name: a registered data set with ``json_file`` in its metadata.
        output_dir: folder for results.json; None writes none.
        distributed: gather what other processes have predicted.

    Raises:
        DataError: The JSON file cannot be read, or the data set was registered with other class indices than the order
            of its categories.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path | None = None, distributed: bool = True) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        source = Path(metadata.json_file)
        self.dataset = VideoDataset.load(source.parent, source.name)
        _check_labels(self.dataset, metadata.get("thing_dataset_id_to_contiguous_id"))
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.distributed = distributed
        self.reset()

    def reset(self) -> None:
        self._predictions: list[VideoPrediction] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Mapping[str, Any]) -> None:
        """Keep the tracks of one video.

        Args:
            inputs: the video, a list of one dict with "video_id".
            outputs: "pred_scores", "pred_labels" and "pred_masks" (each (T, height, width) bool) of the model.
        """
        tracks = [
            Track(int(label), float(score), _encode(mask))
            for label, score, mask in zip(
                outputs["pred_labels"], outputs["pred_scores"], outputs["pred_masks"], strict=True
            )
        ]
        best_first = sorted(tracks, key=lambda track: -track.score)
        self._predictions.append(VideoPrediction(inputs[0]["video_id"], tuple(best_first)))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """{"segm": AP, AP50, AP75, APs, APm, APl, AR1, AR10 and "AP-<class>", in percent}.

        Empty where the data set has no labels and, with several processes, everywhere but in the main one.
        """
        predictions = self._gather()
        if predictions is None:
            return {}
        if self.output_dir is not None:
            category_ids = [category.id for category in self.dataset.categories]
            write_results(self.output_dir / "results.json", predictions, category_ids)
        if not any(video.tracks for video in self.dataset.videos):
            written = "no results.json either" if self.output_dir is None else f"see {self.output_dir / 'results.json'}"
            _log.warning("%s has no labels, so there is no AP; %s", self.dataset.source, written)
            return {}
        names = class_names(self.dataset.categories)
        return {"segm": _metrics(evaluate(ground_truth(self.dataset), predictions, names))}

    def _gather(self) -> list[VideoPrediction] | None:
        """All predictions in the order of the video ids; None where another process has them."""
        predictions = self._predictions
        if self.distributed:
            comm.synchronize()
            parts = comm.gather(predictions, dst=0)
            if not comm.is_main_process():
                return None
            predictions = [prediction for part in parts for prediction in part]
        return sorted(predictions, key=lambda prediction: prediction.video_id)


def _check_labels(dataset: VideoDataset, registered: Mapping[int, int] | None) -> None:
    ours = {category.id: label for label, category in enumerate(dataset.categories)}
    if registered is not None and dict(registered) != ours:
        fix = "sort the categories of the JSON by id, or register the data set with syncvis"
        raise DataError("class indices are not the order of the file", file=dataset.source, key="categories", fix=fix)


def _encode(mask: Any) -> tuple[Any, ...]:
    """(T, height, width) -> one RLE per frame, None for an empty one."""
    frames = np.asarray(mask, bool)
    return tuple(masks.encode(frame) if frame.any() else None for frame in frames)


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """Under the names of Mask2Former-VIS' evaluator."""
    sizes = {f"AP{size[0]}": value for size, value in evaluation.per_size.items()}
    classes = {f"AP-{name}": value for name, value in evaluation.per_category.items()}
    return {**evaluation.metrics, **sizes, **classes}
