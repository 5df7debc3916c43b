"""The one seam: ``run(config, out) -> RunResult``. The CLI, the sweeps and the tests all train through it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
import yaml
from torch import nn

from syncvis.config import RunConfig, TrainConfig
from syncvis.data.loader import Share, TrainClips
from syncvis.distributed import gather, processes_here, rank, wait_for_all, world_size
from syncvis.errors import StorageError
from syncvis.execution import require_shares
from syncvis.files import fingerprint, require_space, require_writable, write_text
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.preflight import Look, look, on_terminal, unwatched
from syncvis.references import require
from syncvis.source import snapshot
from syncvis.structures import ClipBatch
from syncvis.training.activations import checkpoint_activations
from syncvis.training.bar import progress_bar
from syncvis.training.checkpoint import initialise, save_weights
from syncvis.training.cost import shape_model
from syncvis.training.features import are_kept, counted, open_cache
from syncvis.training.log import Listener, LoggedRow, read_rows, tell
from syncvis.training.loop import Progress, train
from syncvis.training.overlays import write_overlays
from syncvis.training.process import (
    deterministic,
    loader_faults,
    peak_memory_mb,
    require_arithmetic,
    reset_peak_memory,
    stop_on_signal,
)
from syncvis.training.provenance import provenance
from syncvis.training.result import RunResult, load_result
from syncvis.training.resume import COPIES, estimated_size, previous
from syncvis.training.runtime import Runtime
from syncvis.training.start import Start, start_from
from syncvis.training.validation import SIZE_DIVISOR, Validation

__all__ = ["RunResult", "Runtime", "count_parameters", "run"]

_log = logging.getLogger(__name__)


def run(config: RunConfig, out: Path, runtime: Runtime | None = None) -> RunResult:
    """Train and evaluate what ``config`` says, in the folder ``out``.

    A finished folder returns its stored result; an interrupted one continues from its checkpoint. Several processes
    that have joined (:func:`syncvis.distributed.joined`) all call this; the first one writes the folder.

    Raises:
        Interrupted: On Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2 or ``runtime.should_stop``, after a checkpoint was stored.
        WorkbenchError: For bad data, a damaged checkpoint, another run's folder, a non-finite loss, or code from
            outside of the workbench that is not allowed (:func:`syncvis.references.allow`).
    """
    require(config.plugins)
    runtime = (runtime or Runtime()).resolved(processes_here())
    share = _share(config.train)
    _require_one_folder(out)
    stored = load_result(out, config.cell_hash)
    if stored is not None:
        if rank() == 0 and runtime.on_row is not None:
            tell(read_rows(out / "metrics.jsonl"), runtime.on_row)
        return stored
    require_writable(out)
    with stop_on_signal() as signalled, deterministic(runtime.deterministic), loader_faults():
        return _carry_out(config, out, runtime, share, signalled)


def _carry_out(
    config: RunConfig, out: Path, runtime: Runtime, share: Share, signalled: Callable[[], bool]
) -> RunResult:
    clock, device = _Clock(), torch.device(runtime.device)
    torch.set_num_threads(runtime.threads)
    require_arithmetic(config.train.precision, device)
    _refuse_other_config(config, out)
    if config.train.trained is not None:
        shape_model(config, 1)  # a part that is not there is an error before the data is looked at
    splits = _looked_at(config, runtime).splits
    if rank() == 0:
        write_text(out / "config.yaml", _as_yaml(config))
    origin = provenance(runtime, device, config.plugins)
    if runtime.keep_source and rank() == 0:
        snapshot(config.plugins).save(out)
    reset_peak_memory(device)
    train_set, valid_set, mixed = splits.train, splits.valid, splits.mixed
    classes = [category.name for category in train_set.categories]
    model, start = _model(config, out, runtime, classes)
    init_fingerprint = fingerprint(Path(config.train.init)) if config.train.init else None
    text_fingerprint = fingerprint(Path(config.method.class_text[0])) if config.method.class_text else None
    cache = open_cache(model, config, runtime, device)
    digests = cache is not None and are_kept(config.data)
    clips = TrainClips(train_set, config.data, config.train.batch_size, config.seed, SIZE_DIVISOR, mixed, digests)
    validation = Validation(model, valid_set, config, device, signalled, digests=cache is not None)
    with progress_bar(config.train.steps, runtime.progress and rank() == 0) as show:
        progress = train(
            model,
            lambda start, stop: clock.first(
                clips.iterate(start, stop, runtime.loader_workers or 0, share, device.type == "cuda")
            ),
            validation,
            config,
            out,
            device,
            lambda: signalled() or bool(runtime.should_stop and runtime.should_stop()),
            _both(show, runtime.on_row),
        )
    evaluation, predictions = validation.latest()
    result = RunResult(
        cell_hash=config.cell_hash,
        variant_hash=config.variant_hash,
        seed=config.seed,
        scale=config.scale,
        metrics=evaluation.metrics,
        per_category=evaluation.per_category,
        per_video={str(key): value for key, value in evaluation.per_video.items()},
        **validation.tracking(),
        history=progress.history,
        steps=progress.step,
        seconds=clock.seconds(progress),
        peak_memory_mb=max(gather(peak_memory_mb(device))),
        parameters=count_parameters(model),
        **origin,
        data_fingerprint="-".join(dataset.fingerprint for dataset in (train_set, valid_set, *mixed)),
        init_fingerprint=init_fingerprint,
        text_fingerprint=text_fingerprint,
        fresh_parameters=list(start.fresh),
        initial_weights=start.words,
        features=counted(cache),
        config=config.model_dump(mode="json"),
    )
    if rank() == 0:
        write_overlays(out / "overlays", valid_set, predictions)
        save_weights(out / "model.safetensors", model, {"cell_hash": config.cell_hash, "classes": classes})
        result.save(out)
        previous(out / "checkpoint.pt").unlink(missing_ok=True)  # nobody will need it
    return result


def _model(config: RunConfig, out: Path, runtime: Runtime, classes: Sequence[str]) -> tuple[Method, Start]:
    """The model on its device, and what it starts with, which is said; its checkpoints fit on the disk."""
    torch.manual_seed(config.seed)
    model, start = build(config, len(classes)), Start()
    there = len(list(out.glob("checkpoint*.pt")))
    require_space(out, max(COPIES - there, 1) * estimated_size(model), "the checkpoints of this run")
    if config.train.init:
        start = start_from(model, config.train.init, classes)
        initialise(model, config.train.init)
        if start.words and rank() == 0:
            _log.warning("initial weights %s: %s", config.train.init, start.words)
    model.read_classes(classes)
    model.to(runtime.device)
    if runtime.checkpoint_activations:
        checkpoint_activations(model)
    return model, start


class _Clock:
    """Seconds since its making, and up to the first batch."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._startup: float | None = None

    def first(self, batches: Iterable[tuple[int, ClipBatch]]) -> Iterator[tuple[int, ClipBatch]]:
        for batch in batches:
            self._startup = self._startup or time.monotonic() - self._start
            yield batch

    def seconds(self, progress: Progress) -> dict[str, float]:
        total = time.monotonic() - self._start
        times = {"train": progress.train_seconds, "eval": progress.eval_seconds, "total": total}
        return times | ({"startup": self._startup} if self._startup else {})


def _both(first: Listener, second: Listener | None) -> Listener:
    def listener(line: int, row: LoggedRow) -> None:
        first(line, row)
        if second is not None:
            second(line, row)

    return listener


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trainable parameters of each top-level part and in ``total``; ``frozen`` are the others, if there are any."""
    parts = {name: _numbers(part, trainable=True) for name, part in model.named_children()}
    frozen = _numbers(model, trainable=False)
    return {**parts, "total": _numbers(model, trainable=True)} | ({"frozen": frozen} if frozen else {})


def _numbers(module: nn.Module, trainable: bool) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad == trainable)


def _share(settings: TrainConfig) -> Share:
    """What this process takes of every batch."""
    require_shares(settings.batch_size, world_size(), settings.accumulate)
    return Share(rank(), world_size(), settings.accumulate)


def _require_one_folder(out: Path) -> None:
    """All processes must continue from the same point."""
    seen = gather([os.path.exists(out / name) for name in ("result.json", "checkpoint.pt")])
    if any(files != seen[0] for files in seen):
        raise StorageError(
            "is another folder for some processes", file=out, fix="put it on a disk that all machines share"
        )


def _looked_at(config: RunConfig, runtime: Runtime) -> Look:
    """What the look before the first step found, its notes logged; raises if anything is wrong.

    The first process looks alone; the others then find what it remembered, on its machine.
    """
    if rank() > 0:
        wait_for_all()
    found = look(config, on_terminal if runtime.progress and rank() == 0 else unwatched)
    if rank() == 0:
        wait_for_all()
        for note in found.notes:
            _log.warning("note: %s", note)
    found.refuse()
    return found


def _refuse_other_config(config: RunConfig, out: Path) -> None:
    """Raises StorageError if the folder is another run's."""
    path = out / "config.yaml"
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != _as_yaml(config):
        raise StorageError("the folder holds a run with another config", file=path, fix="choose another --out")


def _as_yaml(config: RunConfig) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
