"""A rehearsal of a plan: each point for two steps on shrunken inputs, through the machinery of the real run.

What could fail stays as it is (model, weights, losses, augmentation, frames of a clip). What only takes time shrinks:
sides of the frames, sampled points, steps, clips of a batch, videos. The ledger of a rehearsal and its runs lie below
``OUT/rehearsal`` and are made anew each time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from rich.console import Console

from sweeps.definition import Cell, Study
from sweeps.excerpts import Excerpts
from sweeps.ledger import Ledger
from sweeps.overview import log_of
from sweeps.printing import say
from sweeps.progress import format_seconds, names_of
from sweeps.runner import GAVE_UP_CODE, Sweep, SweepOptions
from sweeps.view import StudyKey
from syncvis.config import RunConfig, TrainConfig, resolve, set_dotted
from syncvis.data.mixing import sources_of
from syncvis.errors import ConfigError, Interrupted, StorageError
from syncvis.files import not_written

RUN = "syncvis.training.rehearsal:run"
FOLDER = "rehearsal"
DATA = "data"
STEPS = 2
SHORT_SIDE = 64
"""Pixels of the largest short side: two cells of the coarsest feature map."""
POINTS = 256
MAX_SEEDS = 1000


def require_this_machine(options: SweepOptions) -> None:
    """Raises ConfigError where trials are to run on other machines."""
    if options.placement is not None:
        fix = "leave --placement away, on a login node or inside of a job"
        raise ConfigError("a rehearsal runs on this machine alone", key="--rehearse", fix=fix)


def points_of(study: Study) -> list[Cell]:
    """A cell for each point, under the first seed; of a search, cells in which every value of every axis occurs."""
    points = study.points() if study.search is None else study.probes(most=0)
    cells = [study.cell(point, study.seeds[0], place) for place, point in enumerate(points)]
    return list({cell.hash: cell for cell in reversed(cells)}.values())[::-1]


def rehearsed(config: RunConfig, processes: int = 1, device: str = "cpu") -> RunConfig:
    """The run for a rehearsal: two steps on small frames; whatever else could fail is as it was.

    On the CPU, where fp16 takes minutes a step, bf16 stands for it.

    Args:
        processes: how many train one trial together.
    """
    data, crop = config.data, config.data.crop
    factor = min(1.0, SHORT_SIDE / max(*data.short_side, data.test_short_side))

    def shrunken(*sides: int) -> list[int]:
        return [max(1, round(factor * side)) for side in sides]

    changes = {
        "data.short_side": shrunken(*data.short_side),
        "data.max_size": shrunken(data.max_size)[0],
        "data.test_short_side": shrunken(data.test_short_side)[0],
        "data.test_max_size": shrunken(data.test_max_size)[0],
        "criterion.points": min(config.criterion.points, POINTS),
        "train.steps": STEPS,
        "train.batch_size": _batch_size(config.train, processes, 1 + len(data.mix)),
        "train.log_every": 1,
        "train.eval_every": 0,
        "train.checkpoint_every": STEPS,
    }
    if crop is not None:
        changes |= {"data.crop.short_side": shrunken(*crop.short_side), "data.crop.size": shrunken(*crop.size)}
    if device == "cpu" and config.train.precision == "fp16":
        changes["train.precision"] = "bf16"
    tree = config.model_dump(mode="json")
    for key, value in changes.items():
        tree = set_dotted(tree, key, value)
    small = resolve(tree, "rehearsal")
    return small.model_copy(update={"seed": _seed(small)})


def _batch_size(train: TrainConfig, processes: int, sources: int) -> int:
    """The smallest one by which all processes and passes have a clip, and each data set can have one within the steps.

    One that cannot be shared out stays as it is, for the run to refuse.
    """
    parts = processes * train.accumulate
    if train.batch_size % parts:
        return train.batch_size
    return next(size for size in count(parts, parts) if size * STEPS >= sources)


def _seed(config: RunConfig) -> int:
    """The first seed, from the run's own on, by which each data set has a clip, if there is one."""
    data, clips = config.data, STEPS * config.train.batch_size
    ratios = [data.ratio, *(mixed.ratio for mixed in data.mix)]
    seeds = range(config.seed, config.seed + MAX_SEEDS)
    found = (seed for seed in seeds if len(set(sources_of(ratios, seed, clips))) == len(ratios))
    return next(found, config.seed)


def rehearse(studies: Sequence[Study], options: SweepOptions, console: Console) -> int:
    """Carry out a rehearsal of these studies, and say which points failed.

    Args:
        options: of the real run; only where trials run on this machine, and how, is taken over.

    Returns:
        0 if every point ran, 5 if not.

    Raises:
        ConfigError: A point has a value that no run can have.
        StorageError: Another rehearsal runs in this output folder.
        DataError: A data set cannot be read.
        Interrupted: On Ctrl-C or SIGTERM.
    """
    started, out = time.monotonic(), options.out / FOLDER
    here = replace(options, out=out, storage=None, wandb="disabled", run=RUN, artifacts=False)
    _clear(out)
    ledger, keys = Ledger(here.ledger), []
    excerpts = Excerpts(out.absolute() / DATA, max(2, options.processes))
    for study in studies:
        key = StudyKey(study.experiment, study.scale)
        cells = [_rehearsed_cell(cell, options, excerpts) for cell in points_of(study)]
        definition = study.model_copy(update={"search": None}).model_dump(mode="json")
        ledger.add(key, definition, list({cell.hash: cell for cell in cells}.values()), out / "runs")
        keys.append(key)
    total = sum(ledger.view.counts(keys).values())
    sides = f"short sides of {SHORT_SIDE} pixels at most"
    say(console, f"rehearsal of {total} points: {STEPS} steps each, {sides}; their AP means nothing")
    try:
        Sweep(ledger, keys, here, console).work()
    except Interrupted as error:
        raise Interrupted(error.problem, fix="run the same command again; a rehearsal starts anew") from None
    return _report(ledger, keys, out, time.monotonic() - started, console)


def _rehearsed_cell(cell: Cell, options: SweepOptions, excerpts: Excerpts) -> Cell:
    config = rehearsed(cell.config, options.processes, options.execution.device)
    config = config.model_copy(update={"data": excerpts.of(config.data)})
    return replace(cell, config=config, hash=config.cell_hash)


def _clear(out: Path) -> None:
    """Remove the last rehearsal but for its excerpts.

    Raises:
        StorageError: It still runs, or cannot be removed.
    """
    if (out / "ledger.db").exists():
        ledger = Ledger(out / "ledger.db")
        ledger.reap()
        if ledger.view.counts()["running"]:
            raise StorageError("another rehearsal is running", file=out, fix="wait for its end, or give another --out")
    try:
        for path in out.iterdir() if out.exists() else ():
            if path.is_dir() and path.name != DATA:
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink()
    except OSError as error:
        raise not_written(out, error) from None


def _report(ledger: Ledger, keys: Sequence[StudyKey], out: Path, seconds: float, console: Console) -> int:
    """A line for each study, and each failure with its reason and log."""
    view, failed = ledger.view, ledger.view.cells(keys, ["gave_up"])
    for key in keys:
        states = [row["state"] for row in view.rows([key])]
        words = f"{len(states)} points, {states.count('done')} ok, {states.count('gave_up')} failed"
        say(console, f"{key.name}: {words}")
    names = names_of(view, failed)
    for row in failed:
        say(console, f"  {names[row['cell_hash']]}: {row['error']} ({log_of(row)})")
    peaks = [result["peak_memory_mb"] for result in view.results().values()]
    memory = f"; largest memory of a process {max(peaks) / 1024:.1f} GiB" if peaks else ""
    say(console, f"took {format_seconds(seconds)}{memory}; everything is in {out}")
    return GAVE_UP_CODE if failed else 0
