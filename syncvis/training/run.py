"""The one seam: ``run(config, out) -> RunResult``. The CLI, the sweeps and the tests all train through it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from syncvis.config import RunConfig, TrainConfig
from syncvis.data.loader import Share, TrainClips, video_chunks
from syncvis.data.mixing import load_mix
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.distributed import any_process, gather, rank, world_size
from syncvis.errors import ConfigError, DataError, Interrupted, StorageError
from syncvis.evaluation.ytvis import Evaluation, Evaluator, ground_truth
from syncvis.files import write_text
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.structures import VideoPrediction
from syncvis.training.activations import checkpoint_activations
from syncvis.training.checkpoint import initialise, save_weights
from syncvis.training.inference import chunk_length, predict_chunks
from syncvis.training.loop import train
from syncvis.training.overlays import MAX_VIDEOS, write_overlays
from syncvis.training.process import deterministic, peak_memory_mb, reset_peak_memory, source_commit, stop_on_signal
from syncvis.training.step import Row

SIZE_DIVISOR = 32


@dataclass(frozen=True)
class Runtime:
    """How a run is carried out; nothing here changes a result on the CPU.

    Attributes:
        device: "cpu" or "cuda"; of several processes, that of this one ("cuda:1").
        loader_workers: processes that prepare batches; 0 prepares them in this one.
        threads: CPU threads of this process.
        progress: show a progress bar.
        checkpoint_activations: less memory for more time, see :mod:`syncvis.training.activations`.
        deterministic: the same bits every time also on a GPU, or an error.
        should_stop: asked after each step; True ends the run with a checkpoint.
    """

    device: str = "cpu"
    loader_workers: int = 0
    threads: int = 1
    progress: bool = False
    checkpoint_activations: bool = False
    deterministic: bool = False
    should_stop: Callable[[], bool] | None = None


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves behind, as in result.json. AP values are percent, times seconds."""

    cell_hash: str
    variant_hash: str
    seed: int
    scale: str
    metrics: dict[str, float]
    per_category: dict[str, float]
    per_video: dict[str, float]
    history: list[Row]
    steps: int
    seconds: dict[str, float]
    peak_memory_mb: float
    parameters: dict[str, int]
    environment: dict[str, str]
    commit: str | None
    dirty: bool
    data_fingerprint: str
    fresh_parameters: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(config: RunConfig, out: Path, runtime: Runtime | None = None) -> RunResult:
    """Train and evaluate what ``config`` says, in the folder ``out``.

    A finished folder returns its stored result; an interrupted one continues from its checkpoint. Several processes
    that have joined (:func:`syncvis.distributed.joined`) all call this; the first one writes the folder.

    Raises:
        Interrupted: On Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2 or ``runtime.should_stop``, after a checkpoint was stored.
        WorkbenchError: For bad data, a damaged checkpoint, another run's folder or a non-finite loss.
    """
    runtime = runtime or Runtime()
    share = _share(config.train)
    _require_one_folder(out)
    stored = _finished(config, out)
    if stored is not None:
        return stored
    with stop_on_signal() as signalled, deterministic(runtime.deterministic):
        return _carry_out(config, out, runtime, share, signalled)


def _carry_out(
    config: RunConfig, out: Path, runtime: Runtime, share: Share, signalled: Callable[[], bool]
) -> RunResult:
    torch.set_num_threads(runtime.threads)
    _write_config(config, out)

    device = torch.device(runtime.device)
    reset_peak_memory(device)
    train_set, valid_set = load_splits(config)
    torch.manual_seed(config.seed)
    model = build(config, len(train_set.categories))
    fresh = initialise(model, config.train.init) if config.train.init else []
    model.to(device)
    if runtime.checkpoint_activations:
        checkpoint_activations(model)
    mixed = load_mix(config.data, train_set.categories)
    clips = TrainClips(train_set, config.data, config.train.batch_size, config.seed, SIZE_DIVISOR, mixed)
    validation = Validation(model, valid_set, config, device, signalled)

    started = time.monotonic()
    with _progress_bar(runtime.progress and rank() == 0, config.train.steps) as on_row:
        progress = train(
            model,
            lambda start, stop: clips.iterate(start, stop, runtime.loader_workers, share),
            validation,
            config,
            out,
            device,
            lambda: signalled() or bool(runtime.should_stop and runtime.should_stop()),
            on_row,
        )
    evaluation, predictions = validation.latest()
    commit, dirty = source_commit()
    result = RunResult(
        cell_hash=config.cell_hash,
        variant_hash=config.variant_hash,
        seed=config.seed,
        scale=config.scale,
        metrics=evaluation.metrics,
        per_category=evaluation.per_category,
        per_video={str(key): value for key, value in evaluation.per_video.items()},
        history=progress.history,
        steps=progress.step,
        seconds={
            "train": progress.train_seconds,
            "eval": progress.eval_seconds,
            "total": time.monotonic() - started,
        },
        peak_memory_mb=max(gather(peak_memory_mb(device))),
        parameters=count_parameters(model),
        environment=environment(runtime),
        commit=commit,
        dirty=dirty,
        data_fingerprint="-".join(dataset.fingerprint for dataset in (train_set, valid_set, *mixed)),
        fresh_parameters=fresh,
        config=config.model_dump(mode="json"),
    )
    if rank() == 0:
        write_overlays(out / "overlays", valid_set, predictions)
        save_weights(out / "model.safetensors", model, {"cell_hash": config.cell_hash})
        write_text(out / "result.json", json.dumps(result.to_json(), indent=1))
    return result


class Validation:
    """Evaluates a model, as it stands when called, on one split; keeps the last evaluation and few predictions.

    Several processes predict different videos; all get the metrics of the whole split.

    Args:
        should_stop: asked before each video; True in any process ends the evaluation in all.
    """

    def __init__(
        self,
        model: Method,
        dataset: VideoDataset,
        config: RunConfig,
        device: torch.device,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model, self.dataset, self.config, self.device = model, dataset, config, device
        self.should_stop = should_stop
        self._truth = ground_truth(dataset)
        self._latest: tuple[Evaluation, list[VideoPrediction]] | None = None

    def __call__(self) -> Row:
        """Metrics by name; raises Interrupted in all processes if one should stop."""
        evaluator, shown = self.evaluator(), {video.id for video in self.dataset.videos[:MAX_VIDEOS]}
        kept = [prediction for prediction in self.stream(evaluator) if prediction.video_id in shown]
        first, *others = gather(evaluator)
        for other in others:
            first.merge(other)
        self._latest = first.result(), [prediction for part in gather(kept) for prediction in part]
        return self._latest[0].metrics

    def evaluator(self) -> Evaluator:
        """One that has seen no video."""
        return Evaluator([category.name for category in self.dataset.categories])

    def stream(self, evaluator: Evaluator) -> Iterator[VideoPrediction]:
        """Predict this process's videos one by one and hand them to the evaluator; raises as a call does."""
        stopped = False
        for n in range(rank(), len(self.dataset.videos), world_size()):
            stopped = stopped or self.should_stop()
            if not stopped:
                prediction = predict_one(self.model, self.dataset, self.dataset.videos[n], self.config, self.device)
                evaluator.add(self._truth[n], prediction)
                yield prediction
        if any_process(stopped):
            raise Interrupted("stopped in an evaluation", fix="run the same command to continue")

    def latest(self) -> tuple[Evaluation, list[VideoPrediction]]:
        """The last evaluation and the predictions of the first videos.

        They are made now if this object has made none, as after a resume at the very end.
        """
        if self._latest is None:
            self.model.eval()
            self()
        assert self._latest is not None
        return self._latest


def predict_one(
    model: Method, dataset: VideoDataset, video: Video, config: RunConfig, device: torch.device
) -> VideoPrediction:
    """Predict one video of a data set at the test size of the config."""
    sizes = (config.data.test_short_side, config.data.test_max_size)
    chunks, resized = video_chunks(dataset, video, *sizes, chunk_length(device), size_divisor=SIZE_DIVISOR)
    return predict_chunks(model, chunks, resized, (video.height, video.width), video.id, config.eval, device)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trainable parameters of each part, and in total."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {**parts, "total": sum(parts.values())}


def environment(runtime: Runtime) -> dict[str, str]:
    """Versions and hardware that a number may depend on."""
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy", "scipy", "pycocotools")}
    device = (
        torch.cuda.get_device_name(runtime.device)
        if runtime.device.startswith("cuda")
        else platform.processor() or "cpu"
    )
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(runtime.threads),
        "processes": str(world_size()),
        **packages,
    }


def _share(settings: TrainConfig) -> Share:
    """What this process takes of every batch."""
    parts = world_size() * settings.accumulate
    if settings.batch_size % parts:
        raise ConfigError(
            f"{settings.batch_size} clips cannot be shared by {world_size()} processes in {settings.accumulate} passes",
            key="train.batch_size",
            fix=f"use a multiple of {parts}, or another number of processes or train.accumulate",
        )
    return Share(rank(), world_size(), settings.accumulate)


def _require_one_folder(out: Path) -> None:
    """All processes must continue from the same point."""
    seen = gather([(out / name).exists() for name in ("result.json", "checkpoint.pt")])
    if any(files != seen[0] for files in seen):
        raise StorageError(
            "is another folder for some processes", file=out, fix="put it on a disk that all machines share"
        )


def _finished(config: RunConfig, out: Path) -> RunResult | None:
    path = out / "result.json"
    if not path.exists():
        return None
    try:
        result = RunResult(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise StorageError(f"is not a run result ({error})", file=path, fix="delete it to run again") from None
    if result.cell_hash != config.cell_hash:
        raise StorageError(
            f"belongs to run {result.cell_hash}, not to {config.cell_hash}",
            file=path,
            fix="choose another --out",
        )
    return result


def load_splits(config: RunConfig) -> tuple[VideoDataset, VideoDataset]:
    """Train and validation split, with one list of categories and something to find in the latter."""
    root, videos = Path(config.data.root), config.data.videos
    splits = [VideoDataset.load(root, name) for name in (config.data.train, config.data.valid)]
    train_set, valid_set = splits if videos is None else [split.only(videos) for split in splits]
    if train_set.categories != valid_set.categories:
        problem, fix = f"differ from those of {config.data.train}", "give both files the same list, in the same order"
        raise DataError(problem, file=valid_set.source, key="categories", fix=fix)
    if not any(video.tracks for video in valid_set.videos):
        fix = "evaluate on a split with labels; public validation sets have none"
        raise DataError("has no annotated instance, so AP is undefined", file=valid_set.source, fix=fix)
    return train_set, valid_set


def _write_config(config: RunConfig, out: Path) -> None:
    """config.yaml, after a check that the folder is not another run's."""
    path = out / "config.yaml"
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise StorageError("the folder holds a run with another config", file=path, fix="choose another --out")
    if rank() == 0:
        write_text(path, text)


@contextmanager
def _progress_bar(show: bool, steps: int) -> Iterator[Callable[[Row], None]]:
    columns = [
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    ]
    with Progress(*columns, disable=not show) as bar:
        task = bar.add_task("", total=steps)
        shown: Row = {}

        def on_row(row: Row) -> None:
            shown.update({k: v for k, v in row.items() if k in ("loss", "eval/AP", "eval/AP50")})
            text = "  ".join(f"{name} {value:.2f}" for name, value in shown.items())
            bar.update(task, completed=int(row["step"]), description=text)

        yield on_row
