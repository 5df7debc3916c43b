"""Cells as Optuna trials: what samplers, pruners and the dashboard are told of a study."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from sweeps.database import State
from sweeps.definition import Study
from sweeps.space import Dimension, Label

_STATES: dict[State, TrialState] = {
    "planned": TrialState.RUNNING,  # so that TPE keeps away from what is only queued, too
    "running": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "gave_up": TrialState.FAIL,
}


@dataclass(frozen=True)
class SearchRow:
    """What a search knows of one cell.

    Attributes:
        position: place in the study, from 0; the number of its Optuna trial.
        value: AP of a finished cell.
        reports: training step -> AP there.
        hash: of the cell.
        number: the trial number that users see.
        attempt: the number of its last attempt, which ``started`` and ``finished`` are of, in seconds since 1970.
    """

    position: int
    axes: Mapping[str, Label]
    seed: int
    state: State
    value: float | None = None
    reports: Mapping[int, float] = field(default_factory=dict)
    hash: str = ""
    number: int | None = None
    run_dir: str | None = None
    attempt: int = 0
    started: float | None = None
    finished: float | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """What its Optuna trial carries besides axes and values."""
        place = {"number": self.number, "attempt": self.attempt, "run_dir": self.run_dir}
        return {"cell_hash": self.hash, "seed": self.seed, "state": self.state, **place}


def tell(study: Study, rows: Sequence[SearchRow], sampler: BaseSampler | None = None) -> optuna.Study:
    """The rows as an Optuna study in memory: trial number = position; a position without a row is a failed trial.

    The study's name never changes, as Hyperband draws brackets from it.
    """
    by_position = {row.position: row for row in rows}
    space = distributions(study)
    numbers = range(max(by_position, default=-1) + 1)
    trials = [trial_of(study, by_position[n], space) if n in by_position else _failed() for n in numbers]
    with quiet():
        told = optuna.create_study(study_name=study.name, direction="maximize", sampler=sampler)
        told.add_trials(trials)
    return told


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """One Optuna distribution per axis, whether it exists everywhere or not."""
    return {axis.name: distribution(axis) for axis in study.axes}


def trial_of(study: Study, row: SearchRow, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """One row as a trial; a failed one where the space has no such point any more, or the value is no number."""
    if not study.holds(row.axes):
        return _failed()
    reports = {step: value for step, value in sorted(row.reports.items()) if math.isfinite(value)}
    state = _STATES[row.state]
    value = row.value if state == TrialState.COMPLETE else next(reversed(reports.values()), row.value)
    usable = value is not None and math.isfinite(value)
    if state == TrialState.COMPLETE and not usable:
        state = TrialState.FAIL
    trial = optuna.trial.create_trial(
        state=state,
        value=value if usable and state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params=dict(row.axes),
        distributions={axis: space[axis] for axis in row.axes},
        intermediate_values=reports,
        user_attrs=row.attributes,
    )
    if row.started is not None:
        trial.datetime_start = datetime.fromtimestamp(row.started)  # local, without a zone, as Optuna's own
    if row.finished is not None and state.is_finished():
        trial.datetime_complete = datetime.fromtimestamp(row.finished)
    return trial


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's log lines and its warnings about experimental parts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def distribution(axis: Dimension) -> BaseDistribution:
    """The Optuna distribution of one axis."""
    numbers = axis.range
    if numbers is None:
        return CategoricalDistribution([point.label for point in axis.points])
    if numbers.whole:
        return IntDistribution(int(numbers.low), int(numbers.last), log=numbers.log, step=int(numbers.step or 1))
    return FloatDistribution(float(numbers.low), float(numbers.last), log=numbers.log, step=numbers.step)


def _failed() -> FrozenTrial:
    return optuna.trial.create_trial(state=TrialState.FAIL)
