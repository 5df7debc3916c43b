"""Optuna: a mirror of the ledger for its dashboard, and its samplers to choose which cells are run next.

The ledger alone decides what is done. A study can be rebuilt from it at any time and needs no repair:
trials are only ever added finished, never left running.
"""

from __future__ import annotations

import fcntl
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sweeps.experiment import Cell
from sweeps.ledger import Ledger
from syncvis.errors import StorageError

Sampler = Literal["tpe", "random"]
Space = dict[str, CategoricalDistribution]
Result = dict[str, Any]
RunCells = Callable[[Sequence[Cell]], None]
SAMPLERS: dict[Sampler, type[TPESampler] | type[RandomSampler]] = {"tpe": TPESampler, "random": RandomSampler}
# A sampler that only proposes finished points so often in a row gets the next open cell instead.
PATIENCE = 50


def study_name(experiment: str, scale: str) -> str:
    return f"{experiment}-{scale}"


def mirror(ledger: Ledger, planned: Sequence[Cell], file: Path) -> int:
    """Add each done cell to its study in the SQLite ``file`` as one trial; returns how many were new.

    Raises:
        StorageError: The file cannot be used.
    """
    hashes = [cell.hash for cell in planned]
    results, states = ledger.results(hashes), ledger.states(hashes)
    added = 0
    with _quiet(), _named_errors(file), _alone(file):
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        for cells in _by_experiment(planned):
            study = _study(storage, cells)
            trials = study.get_trials(deepcopy=False)
            known = {trial.user_attrs.get("cell_hash") for trial in trials}
            new = [cell for cell in cells if cell.hash in results and cell.hash not in known]
            for cell in new:
                study.add_trial(_trial(cell, results[cell.hash], space_of(cells), states[cell.hash]["run_dir"]))
            added += len(new)
    return added


def search(ledger: Ledger, cells: Sequence[Cell], sampler: Sampler, trials: int, run: RunCells, batch: int = 1) -> None:
    """Let a sampler choose cells of one experiment until ``trials`` of them are done.

    What is done already counts and is told to the sampler first, so the same call again goes on from there.

    Args:
        run: Runs some cells to their end in the ledger (done or given up).
        batch: How many cells are chosen, and run, at a time.
    """
    space = space_of(cells)
    with _quiet():
        study = optuna.create_study(direction="maximize")

        def tell_results(asked: Sequence[Cell]) -> list[Cell]:
            results = ledger.results([cell.hash for cell in asked])
            done = [cell for cell in asked if cell.hash in results]
            study.add_trials([_trial(cell, results[cell.hash], space) for cell in done])
            return done

        done = tell_results(cells)
        left = [cell for cell in cells if cell not in done]
        while len(done) < trials and left:
            study.sampler = SAMPLERS[sampler](seed=len(study.trials))
            chosen = _choose(study, space, left, min(batch, trials - len(done)))
            run(chosen)
            done += tell_results(chosen)
            left = [cell for cell in left if cell not in chosen]


def space_of(cells: Sequence[Cell]) -> Space:
    """One categorical parameter per axis, its choices in the order of the plan."""
    labels = {axis: list(dict.fromkeys(cell.axes[axis] for cell in cells)) for axis in cells[0].axes}
    return {axis: CategoricalDistribution(choices) for axis, choices in labels.items()}


def _choose(study: optuna.Study, space: Space, left: Sequence[Cell], number: int) -> list[Cell]:
    """Up to ``number`` different cells: of each proposed point the first seed that is left."""
    chosen: list[Cell] = []
    for _ in range(PATIENCE * number):
        point = study.ask(dict(space)).params
        free = [cell for cell in left if cell.axes == point and cell not in chosen]
        chosen += free[:1]
        if len(chosen) == number:
            return chosen
    rest = [cell for cell in left if cell not in chosen]
    return chosen + rest[: number - len(chosen)]


def _by_experiment(planned: Sequence[Cell]) -> list[list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in planned:
        groups.setdefault(study_name(cell.experiment, cell.scale), []).append(cell)
    return list(groups.values())


def _study(storage: optuna.storages.RDBStorage, cells: Sequence[Cell]) -> optuna.Study:
    """The study of these cells; dropped and begun anew when its axes have other choices by now."""
    name = study_name(cells[0].experiment, cells[0].scale)
    space = {axis: list(choices.choices) for axis, choices in space_of(cells).items()}
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    if study.user_attrs.get("space", space) != space:
        optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    if "space" not in study.user_attrs:
        study.set_user_attr("space", space)
    return study


def _trial(cell: Cell, result: Result, space: Space, run_dir: str | None = None) -> FrozenTrial:
    ap = result["metrics"]["AP"]
    usable = math.isfinite(ap)
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if usable else TrialState.FAIL,
        value=ap if usable else None,
        params=dict(cell.axes),
        distributions=dict(space),
        intermediate_values={row["step"]: row["AP"] for row in result["history"] if math.isfinite(row["AP"])},
        user_attrs={"cell_hash": cell.hash, "seed": cell.seed, "run_dir": run_dir},
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log lines and its warnings about experimental parts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time mirrors into this file, so that no trial is added twice."""
    with Path(f"{file}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (OptunaError, SQLAlchemyError, OSError) as error:
        problem = str(error).splitlines()[0]
        fix = "delete it: the next sweep builds it again from the ledger"
        raise StorageError(problem, file=file, fix=fix) from None
