"""A searched study trial by trial: the best so far, what was stopped early, and which axes mattered."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from analysis.experiments import Axis, as_label
from analysis.tables import Table, values_of
from analysis.trials import AXIS, Trials, labelled

OBJECTIVE = "AP"
"""What a search maximises."""
MIN_TRIALS = 20
"""Finished trials that importance needs."""
TOP_TRIALS = 5
"""How many of them should be among the best that PED-ANOVA compares with the rest (advice in Optuna's manual)."""


@dataclass(frozen=True)
class Search:
    """A searched study.

    Attributes:
        table: the same cells as settings.
        trials: one row per cell by trial number: ``number``, ``state``, ``seed``, ``axis.<name>``, the metrics of
            finished ones (percent), ``value`` (their AP; of a pruned one at its last evaluation), and ``best``: the
            highest AP of a finished one so far.
        importance: axis -> its share by PED-ANOVA, the highest first; empty with fewer than MIN_TRIALS finished.
    """

    table: Table
    trials: pd.DataFrame
    importance: dict[str, float]

    @property
    def finished(self) -> pd.DataFrame:
        """The trials that ran to their end with a finite AP."""
        return self.trials[(self.trials["state"] == "done") & self.trials["value"].notna()]

    @property
    def pruned(self) -> pd.DataFrame:
        return self.trials[self.trials["state"] == "pruned"]

    @property
    def quantile(self) -> float:
        """The part of the finished trials that PED-ANOVA takes as the best ones."""
        return max(0.1, TOP_TRIALS / max(len(self.finished), TOP_TRIALS))

    def ranked(self) -> list[dict[Any, Any]]:
        """The finished trials, best first; of equal ones the earlier."""
        return self.finished.sort_values("value", ascending=False, kind="stable").to_dict("records")


def search(trials: Trials, table: Table) -> Search:
    """The trials of a searched study, whose numbers are in ``table``."""
    values = values_of(trials, table.experiment)
    rows = [_row(cell, table, values, trials.reports) for cell in table.cells.to_dict("records")]
    frame = labelled(rows, [AXIS + axis for axis in table.axes]).sort_values("number", kind="stable")
    done = frame["value"].where(frame["state"] == "done")
    frame = frame.assign(best=done.cummax().ffill()).reset_index(drop=True)
    found = Search(table, frame, {})
    return Search(table, frame, _importance(found))


def _row(
    cell: dict[Any, Any], table: Table, values: dict[tuple[str, str], float], reports: dict[str, float]
) -> dict[str, Any]:
    name, state = cell["cell_hash"], cell["state"]
    done = state == "done"
    metrics = {m: values.get((name, m), math.nan) if done else math.nan for m in table.experiment.layout.metrics}
    value = values.get((name, OBJECTIVE), math.nan) if done else math.nan
    value = reports.get(name, math.nan) if state == "pruned" else value
    axes = {AXIS + axis: cell[AXIS + axis] for axis in table.axes}
    return {"number": cell["number"], "state": state, "seed": cell["seed"], **axes, **metrics, "value": value}


def _importance(found: Search) -> dict[str, float]:
    """Optuna's PED-ANOVA over the finished trials; it knows axes that exist at some points only.

    Pruned trials are left out: their AP is of a smaller budget.
    """
    rows, axes = found.finished.to_dict("records"), found.table.experiment.study.axes
    if len(rows) < MIN_TRIALS:
        return {}
    space = {axis.name: _distribution(axis) for axis in axes}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental; few trials with some axis
            told = optuna.create_study(direction="maximize")
            told.add_trials([_trial(row, space) for row in rows])
            known = {name for trial in told.get_trials(deepcopy=False) for name in trial.params}
            ranker = PedAnovaImportanceEvaluator(target_quantile=found.quantile)
            params = [axis.name for axis in axes if axis.name in known]
            shares = get_param_importances(told, evaluator=ranker, params=params)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def _trial(row: dict[Any, Any], space: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    """A label that the study does not have any more is left out, as an axis that does not exist there."""
    labels = {name: row[AXIS + name] for name in space if row[AXIS + name] is not None}
    params = {name: label for name, label in labels.items() if _holds(space[name], label)}
    distributions = {name: space[name] for name in params}
    return optuna.trial.create_trial(value=row["value"], params=params, distributions=distributions)


def _holds(space: BaseDistribution, label: Any) -> bool:
    if isinstance(space, CategoricalDistribution):
        return label in space.choices
    return isinstance(label, int | float) and space._contains(float(label))


def _distribution(axis: Axis) -> BaseDistribution:
    numbers = axis.range
    if numbers is None:
        return CategoricalDistribution([as_label(point.label) for point in axis.points])
    if isinstance(numbers.low, int) and isinstance(numbers.high, int):
        return IntDistribution(numbers.low, numbers.high, log=numbers.log)
    return FloatDistribution(float(numbers.low), float(numbers.high), log=numbers.log)
