"""A finished run at work: evaluate a split, or find the tracks of one video."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import torch

from syncvis.config import RunConfig, load_config
from syncvis.data.annotations import category_differences, match_by_name
from syncvis.data.single import open_video
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError
from syncvis.evaluation.results import write_results
from syncvis.evaluation.truth import require_instances
from syncvis.evaluation.ytvis import Evaluation
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.preflight import look_at_split, on_terminal
from syncvis.training.checkpoint import load_weights
from syncvis.training.overlays import write_overlay
from syncvis.training.validation import Validation, predict_one


@dataclass(frozen=True)
class FinishedRun:
    """A run folder, loaded: its config, the categories it was trained on and the model."""

    config: RunConfig
    categories: tuple[Category, ...]
    model: Method
    device: torch.device

    @classmethod
    def load(cls, run_dir: Path, device: str, threads: int) -> FinishedRun:
        """Read config.yaml and model.safetensors.

        Raises:
            WorkbenchError: One of them, or the data set that names the categories, is missing or damaged.
        """
        torch.set_num_threads(threads)
        config = load_config(run_dir / "config.yaml")
        categories = VideoDataset.load(Path(config.data.root), config.data.train).categories
        model = build(config, len(categories))
        load_weights(model, run_dir / "model.safetensors")
        model.to(device).eval()
        return cls(config, categories, model, torch.device(device))


def evaluate_run(
    run_dir: Path,
    split: str,
    root: str | None,
    results: Path | None,
    device: str,
    threads: int,
    remarks: list[str] | None = None,
) -> Evaluation:
    """Metrics of a run on a split; writes results.json, or a zip, for an evaluation server if ``results`` is given.

    Args:
        remarks: takes how the categories were matched, where they are not the same list.

    Raises:
        DataError: The split cannot be read, lacks a frame, has no instance to find, or other categories than the run.
    """
    run = FinishedRun.load(run_dir, device, threads)
    folder = Path(root or run.config.data.root)
    dataset = VideoDataset.load(folder, split)
    look_at_split(dataset, folder, split, on_terminal).refuse()
    if said := category_differences(run.categories, dataset.categories):
        dataset = _matched(dataset, run.categories, said)
        if remarks is not None:
            remarks.append(f"categories of {dataset.source.name} matched by name: {said}")
    require_instances(dataset.source, ((track.iscrowd, track.is_seen) for v in dataset.videos for track in v.tracks))
    validation = Validation(run.model, dataset, run.config, run.device)
    evaluator = validation.evaluator()
    if results is None:
        deque(validation.stream(evaluator), maxlen=0)
    else:
        write_results(results, validation.stream(evaluator), [category.id for category in dataset.categories])
    return evaluator.result()


def _matched(dataset: VideoDataset, categories: tuple[Category, ...], said: str) -> VideoDataset:
    """The data set with the labels of a run's categories of the same names, and its own ids.

    Raises:
        DataError: Names differ, or two categories have one name.
    """
    if not match_by_name(categories, dataset.categories):
        fix = "evaluate on data with the categories of the training split"
        raise DataError(f"are not those of the run: {said}", file=dataset.source, key="categories", fix=fix)
    return dataset.labelled_as(categories)


def infer_video(run_dir: Path, source: Path, out: Path, max_frames: int, device: str, threads: int) -> list[Path]:
    """Write ``results.json`` and ``overlay.png`` of the tracks in a folder of frames or a video file.

    Raises:
        DataError: There are no frames, too many, of different sizes, or they cannot be read.
    """
    run = FinishedRun.load(run_dir, device, threads)
    dataset = open_video(source, run.categories, max_frames)
    video = dataset.videos[0]
    prediction = predict_one(run.model, dataset, video, run.config, run.device)
    write_results(out / "results.json", [prediction], [category.id for category in run.categories])
    return [out / "results.json", write_overlay(out / "overlay.png", dataset, video, prediction)]
