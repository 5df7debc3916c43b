"""What a study plans, and what of it is left, by the ledger's measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.cost import Left, Rate, Rates, kind_of, last_steps
from sweeps.database import Row
from sweeps.definition import Cell, Study
from sweeps.view import ENDED, StudyKey, View
from syncvis.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """The cells of a study.

    Attributes:
        cells: those that are known: the whole grid, or what a search has chosen so far.
        unchosen: how many a search will still choose.
        steps: of an unchosen one; None if only its axes tell.
    """

    key: StudyKey
    cells: Sequence[Cell]
    unchosen: int = 0
    steps: int | None = None


@dataclass(frozen=True)
class _Known:
    """What the ledger knows of all cells: hash -> row, and the last step of those that have begun."""

    rows: dict[str, Row]
    steps: dict[str, int]


class Forecast:
    """What is left of planned cells; without a ledger everything is, and nothing is measured."""

    def __init__(self, view: View | None, keys: Sequence[StudyKey]):
        self._rates = Rates(view, keys) if view else None
        self._known = _known(view) if view else _Known({}, {})

    def counts(self, cells: Sequence[Cell]) -> list[int]:
        """How many are done, pruned and given up."""
        states = [self._state(cell) for cell in cells]
        return [states.count(state) for state in ENDED]

    def open(self, cells: Sequence[Cell]) -> list[Cell]:
        """Cells that have not ended."""
        return [cell for cell in cells if self._state(cell) not in ENDED]

    def left(self, plan: Plan, cells: Sequence[Cell]) -> Left:
        """Of some cells of a plan, and of those that are not chosen; steps that are done are not left."""
        total = self._unchosen(plan)
        for cell in self.open(cells):
            rate = self._rate(plan.key, cell)
            steps = max(cell.config.train.steps - self._known.steps.get(cell.hash, 0), 0)
            total += Left(rate.seconds * steps / 3600) if rate else Left(unmeasured=1)
        return total

    def rates(self, plan: Plan, cells: Sequence[Cell]) -> list[Rate]:
        """The study's own rate, or those that are taken for its open cells."""
        own = self._rates.of(plan.key) if self._rates else None
        return [own] if own else [rate for cell in self.open(cells) if (rate := self._rate(plan.key, cell))]

    def _unchosen(self, plan: Plan) -> Left:
        rate = self._rates.of(plan.key) if self._rates else None
        if rate is None or plan.steps is None:
            return Left(unmeasured=plan.unchosen)
        return Left(rate.seconds * plan.steps * plan.unchosen / 3600)

    def _rate(self, key: StudyKey, cell: Cell) -> Rate | None:
        return self._rates.of(key, kind_of(cell.config.model_dump(mode="json"))) if self._rates else None

    def _state(self, cell: Cell) -> str:
        return str(self._known.rows.get(cell.hash, {"state": "planned"})["state"])


def plan_of(study: Study, view: View | None) -> Plan:
    """The whole grid of a study; of a searched one what the ledger has, and the number that is still to be chosen."""
    key = StudyKey(study.experiment, study.scale)
    if study.search is None:
        return Plan(key, study.cells())
    rows = [row for row in view.rows([key]) if study.holds(row["axes"])] if view else []
    cells = [study.cell(row["axes"], row["seed"], row["position"]) for row in rows]
    try:
        steps = study.base_config().train.steps
    except ConfigError:  # the base needs what only the axes give
        steps = None
    most = min(filter(None, (study.search.trials, study.size())))
    return Plan(key, cells, max(most - len(cells), 0), steps)


def _known(view: View) -> _Known:
    rows = {row["cell_hash"]: row for row in view.cells()}
    begun = [h for h, row in rows.items() if row["state"] not in ENDED and row["attempt"]]
    return _Known(rows, last_steps(view, begun))
