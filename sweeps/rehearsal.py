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
from pathlib import Path

from rich.console import Console

from sweeps.definition import Cell, Study
from sweeps.ledger import Ledger
from sweeps.overview import log_of
from sweeps.printing import say
from sweeps.progress import format_seconds, names_of
from sweeps.readiness import require_disk
from sweeps.runner import GAVE_UP_CODE, Sweep, SweepOptions
from sweeps.view import StudyKey
from syncvis.errors import ConfigError, Interrupted, StorageError
from syncvis.files import not_written

RUN = "syncvis.training.rehearsal:run"
FOLDER = "rehearsal"
DATA = "data"


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
    ledger = Ledger(here.ledger)
    keys = [_enrol(ledger, study, here) for study in studies]
    total = sum(ledger.view.counts(keys).values())
    say(console, f"rehearsal of {total} points, two steps each on small frames; their AP means nothing")
    try:
        Sweep(ledger, keys, here, console).work()
    except Interrupted as error:
        raise Interrupted(error.problem, fix="run the same command again; a rehearsal starts anew") from None
    return _report(ledger, keys, out, time.monotonic() - started, console)


def _enrol(ledger: Ledger, study: Study, options: SweepOptions) -> StudyKey:
    """Bring the points of a study into the ledger; points that shrink to one run are one."""
    from syncvis.rehearsal import Excerpts, rehearsed  # it brings libraries for pictures and videos

    key, runs = StudyKey(study.experiment, study.scale), options.out / "runs"
    excerpts = Excerpts(options.out.absolute() / DATA, max(2, options.processes))
    cells = dict[str, Cell]()
    for cell in points_of(study):
        small = rehearsed(cell.config, options.processes, options.execution.device)
        small = small.model_copy(update={"data": excerpts.of(small.data)})
        cells.setdefault(small.cell_hash, replace(cell, config=small, hash=small.cell_hash))
    require_disk(runs, [cell.config for cell in cells.values()], options.size)
    definition = study.model_copy(update={"search": None}).model_dump(mode="json")
    ledger.add(key, definition, list(cells.values()), runs)
    return key


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
        wrong = f", {states.count('gave_up')} failed" if "gave_up" in states else ""
        say(console, f"{key.name}: {states.count('done')} of {len(states)} points ok{wrong}")
    names = names_of(view, failed)
    for row in failed:
        say(console, f"  {names[row['cell_hash']]}: {row['error']} ({log_of(row)})")
    peaks = [result["peak_memory_mb"] for result in view.results().values()]
    memory = f"; largest memory of a process {max(peaks) / 1024:.1f} GiB" if peaks else ""
    say(console, f"took {format_seconds(seconds)}{memory}; everything is in {out}")
    return GAVE_UP_CODE if failed else 0
