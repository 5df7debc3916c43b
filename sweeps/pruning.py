"""Which running cell is stopped early: a pure function of a study and its rows, decided by Optuna's own pruners."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.pruners import HyperbandPruner, MedianPruner
from optuna.trial import FrozenTrial, TrialState

from sweeps.definition import Study
from sweeps.space import HyperbandSettings, MedianSettings
from sweeps.trials import SearchRow, quiet, tell


def should_prune(study: Study, rows: Sequence[SearchRow], position: int) -> bool:
    """Whether the running cell at ``position`` should stop after its latest report; never at its last step."""
    settings = study.search.pruner if study.search else None
    row = next((row for row in rows if row.position == position), None)
    if settings is None or row is None or row.state != "running" or not row.reports or not study.holds(row.axes):
        return False
    if max(row.reports) >= study.cell(row.axes, row.seed, position).config.train.steps:
        return False
    told = tell(study, rows)
    with quiet():
        if isinstance(settings, MedianSettings):
            pruner = MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_steps)
            return pruner.prune(told, _trial(told, position))
        return _hyperband(study, settings, told, position)


def _hyperband(study: Study, settings: HyperbandSettings, told: optuna.Study, position: int) -> bool:
    """Optuna's Hyperband, told first which rungs each trial has reached: live it notes that report by report."""
    train, factor = study.base_config().train, settings.reduction_factor
    first = min(settings.min_resource or train.eval_every or train.steps, train.steps)
    pruner = HyperbandPruner(first, train.steps, factor)
    pruner._try_initialization(told)
    for trial in told.get_trials(deepcopy=False):
        rung = first * factor ** pruner._get_bracket_id(told, trial)
        trial.system_attrs.update(_rungs(trial, rung, factor, asked=trial.number == position))
    return pruner.prune(told, _trial(told, position))


def _rungs(trial: FrozenTrial, step: int, factor: int, asked: bool) -> dict[str, float]:
    """Optuna's notes of a trial: at which AP it came to each rung. What its latest report means is asked, not noted.

    A pruned trial got no further than one rung with its last report.
    """
    reports = list(trial.intermediate_values.items())
    rungs: dict[str, float] = {}
    for place, (reported, value) in enumerate(reports[:-1] if asked else reports):
        while reported >= step:
            rungs[f"completed_rung_{len(rungs)}"] = value
            step *= factor
            if trial.state == TrialState.PRUNED and place == len(reports) - 1:
                break
    return rungs


def _trial(told: optuna.Study, position: int) -> FrozenTrial:
    return told.get_trials(deepcopy=False)[position]
