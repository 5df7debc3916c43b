"""The one seam: ``run(config, out) -> RunResult``. The CLI, the sweeps and the tests all train through it."""

from __future__ import annotations

import json
import platform
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from syncvis.config import RunConfig
from syncvis.data.loader import TrainClips, video_chunks
from syncvis.data.ytvis import Video, VideoDataset
from syncvis.errors import DataError, StorageError
from syncvis.evaluation.ytvis import Evaluation, evaluate, ground_truth
from syncvis.files import write_text
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.structures import VideoPrediction
from syncvis.training.checkpoint import initialise, save_weights
from syncvis.training.inference import CHUNK, predict_chunks
from syncvis.training.loop import Row, train
from syncvis.training.overlays import write_overlays

SIZE_DIVISOR = 32


@dataclass(frozen=True)
class Runtime:
    """How a run is carried out; nothing here changes a result on the CPU.

    Attributes:
        device: "cpu" or "cuda".
        loader_workers: processes that prepare batches; 0 prepares them in this one.
        threads: CPU threads of this process.
        progress: show a progress bar.
        should_stop: asked after each step; True ends the run with a checkpoint.
    """

    device: str = "cpu"
    loader_workers: int = 0
    threads: int = 1
    progress: bool = False
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

    A finished folder returns its stored result; an interrupted one continues from its checkpoint.

    Raises:
        Interrupted: On Ctrl-C, SIGTERM or ``runtime.should_stop``, after a checkpoint was stored.
        WorkbenchError: For bad data, a damaged checkpoint, another run's folder or a non-finite loss.
    """
    runtime = runtime or Runtime()
    stored = _finished(config, out)
    if stored is not None:
        return stored
    torch.set_num_threads(runtime.threads)
    _write_config(config, out)

    device = torch.device(runtime.device)
    _reset_peak_memory(device)
    train_set, valid_set = load_splits(config)
    torch.manual_seed(config.seed)
    model = build(config, len(train_set.categories))
    fresh = initialise(model, config.train.init) if config.train.init else []
    model.to(device)
    clips = TrainClips(train_set, config.data, config.train.batch_size, config.seed, size_divisor=SIZE_DIVISOR)
    validation = Validation(model, valid_set, config, device)

    started = time.monotonic()
    with _stop_on_signal() as signalled, _progress_bar(runtime.progress, config.train.steps) as on_row:
        progress = train(
            model,
            lambda start, stop: clips.iterate(start, stop, runtime.loader_workers),
            validation,
            config,
            out,
            device,
            lambda: signalled() or bool(runtime.should_stop and runtime.should_stop()),
            on_row,
        )
    evaluation, predictions = validation.latest()
    write_overlays(out / "overlays", valid_set, predictions)
    save_weights(out / "model.safetensors", model, {"cell_hash": config.cell_hash})
    commit, dirty = _commit()
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
        peak_memory_mb=_peak_memory_mb(device),
        parameters=count_parameters(model),
        environment=environment(runtime),
        commit=commit,
        dirty=dirty,
        data_fingerprint=f"{train_set.fingerprint}-{valid_set.fingerprint}",
        fresh_parameters=fresh,
        config=config.model_dump(mode="json"),
    )
    write_text(out / "result.json", json.dumps(result.to_json(), indent=1))
    return result


class Validation:
    """Evaluates a model, as it stands when called, on one split; keeps the last evaluation."""

    def __init__(self, model: Method, dataset: VideoDataset, config: RunConfig, device: torch.device) -> None:
        self.model, self.dataset, self.config, self.device = model, dataset, config, device
        self._truth = ground_truth(dataset)
        self._latest: tuple[Evaluation, list[VideoPrediction]] | None = None

    def __call__(self) -> Row:
        predictions = [
            predict_one(self.model, self.dataset, video, self.config, self.device) for video in self.dataset.videos
        ]
        categories = [category.name for category in self.dataset.categories]
        self._latest = evaluate(self._truth, predictions, categories), predictions
        return self._latest[0].metrics

    def latest(self) -> tuple[Evaluation, list[VideoPrediction]]:
        """The last evaluation; made now if this object has made none, as after a resume at the very end."""
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
    chunks, resized = video_chunks(dataset, video, *sizes, CHUNK, size_divisor=SIZE_DIVISOR)
    return predict_chunks(model, chunks, resized, (video.height, video.width), video.id, config.eval, device)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trainable parameters of each part, and in total."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {**parts, "total": sum(parts.values())}


def environment(runtime: Runtime) -> dict[str, str]:
    """Versions and hardware that a number may depend on."""
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy", "scipy", "pycocotools")}
    device = torch.cuda.get_device_name() if runtime.device.startswith("cuda") else platform.processor() or "cpu"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(runtime.threads),
        **packages,
    }


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
    write_text(path, text)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a stop request; a second one acts as usual."""
    received: list[int] = []
    try:
        before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def remember(number: int, _: object) -> None:
            received.append(number)
            signal.signal(number, before[number])

        for number in before:
            signal.signal(number, remember)
    except ValueError:  # not in the main thread: the caller owns the signals
        before = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _commit() -> tuple[str | None, bool]:
    """Commit of the source tree this package runs from, and whether tracked files differ from it."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except OSError:
        return None, False


def _reset_peak_memory(device: torch.device) -> None:
    """Forget the peak of what this process did before: a worker carries out many runs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # only Linux can; elsewhere the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
