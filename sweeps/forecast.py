"""What a study plans, and what of it is left, by the ledger's measurements, or by counted FLOPs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeps.cost import Left, Rate, Rates, kind_of, last_steps
from sweeps.database import Row
from sweeps.definition import Cell, Study
from sweeps.estimate import Done, Estimate, estimate
from sweeps.view import ENDED, StudyKey, View
from syncvis.config import RunConfig
from syncvis.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """The cells of a study.

    Attributes:
        cells: those that are known: the whole grid, or what a search has chosen so far.
        unchosen: how many a search will still choose.
        base: of an unchosen one, of whose config the axes change a part; None if it needs what only they give.
    """

    key: StudyKey
    cells: Sequence[Cell]
    unchosen: int = 0
    base: RunConfig | None = None


@dataclass(frozen=True)
class _Known:
    """What the ledger knows of all cells: hash -> row, and the last step of those that have begun."""

    rows: dict[str, Row]
    steps: dict[str, int]


class Forecast:
    """What is left of planned cells; without a ledger everything is, and nothing is measured.

    Args:
        estimated: hours of a cell without a measured one of its kind follow from its FLOPs, see
            :mod:`sweeps.estimate`; else from any cell of its study, or they are unknown.
        tflops: what one GPU sustains; by default as measured, else as published.
    """

    def __init__(self, view: View | None, plans: Sequence[Plan], estimated: bool = False, tflops: float | None = None):
        self._rates = Rates(view, [plan.key for plan in plans]) if view else None
        self._known = _known(view) if view else _Known({}, {})
        self._alike = estimated
        self.estimate = self._estimate(plans, tflops) if estimated else None

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
            steps = max(cell.config.train.steps - self._known.steps.get(cell.hash, 0), 0)
            total += self._left(self._rate(plan.key, cell.config), cell.config, steps, 1)
        return total

    def rates(self, plan: Plan, cells: Sequence[Cell]) -> list[Rate]:
        """The study's own rate, or those that are taken for its open cells; where hours are estimated, by kind."""
        own = self._rates.of(plan.key) if self._rates and not self._alike else None
        shown = cells if self._alike else self.open(cells)
        return [own] if own else [rate for cell in shown if (rate := self._rate(plan.key, cell.config))]

    def _unchosen(self, plan: Plan) -> Left:
        if plan.base is None or not plan.unchosen:
            return Left(unmeasured=plan.unchosen)
        rate = self._rates.of(plan.key) if self._rates else None
        return self._left(rate, plan.base, plan.base.train.steps * plan.unchosen, plan.unchosen)

    def _left(self, rate: Rate | None, config: RunConfig, steps: int, cells: int) -> Left:
        """Of so many steps of so many cells, at a measured rate or by their FLOPs."""
        if rate is not None:
            return Left(rate.device_seconds * steps / 3600)
        seconds = self.estimate.seconds(config) if self.estimate else None
        if seconds is None:
            return Left(unmeasured=cells)
        return Left(seconds * steps / 3600, estimated=seconds * steps / 3600)

    def _rate(self, key: StudyKey, config: RunConfig) -> Rate | None:
        return self._rates.of(key, kind_of(config.model_dump(mode="json")), self._alike) if self._rates else None

    def _state(self, cell: Cell) -> str:
        return str(self._known.rows.get(cell.hash, {"state": "planned"})["state"])

    def _estimate(self, plans: Sequence[Plan], tflops: float | None) -> Estimate | None:
        """Of the cells that need it; None if none does."""
        wanted = [
            cell.config for plan in plans for cell in self.open(plan.cells) if not self._rate(plan.key, cell.config)
        ]
        wanted += [plan.base for plan in plans if plan.base is not None and plan.unchosen]
        return estimate(wanted, list(self._done(plans)), tflops) if wanted else None

    def _done(self, plans: Sequence[Plan]) -> Iterator[Done]:
        """Measured cells of the plans, each once."""
        for cell in {cell.hash: cell for plan in plans for cell in plan.cells}.values():
            seconds = self._rates.device_seconds(cell.hash) if self._rates else None
            if seconds:
                yield Done(cell.config, seconds)


def plan_of(study: Study, view: View | None) -> Plan:
    """The whole grid of a study; of a searched one what the ledger has, and the number that is still to be chosen."""
    key = StudyKey(study.experiment, study.scale)
    if study.search is None:
        return Plan(key, study.cells())
    rows = [row for row in view.rows([key]) if study.holds(row["axes"])] if view else []
    cells = [study.cell(row["axes"], row["seed"], row["position"]) for row in rows]
    try:
        base = study.base_config()
    except ConfigError:  # it needs what only the axes give
        base = None
    most = min(filter(None, (study.search.trials, study.size())))
    return Plan(key, cells, max(most - len(cells), 0), base)


def _known(view: View) -> _Known:
    rows = {row["cell_hash"]: row for row in view.cells()}
    begun = [h for h, row in rows.items() if row["state"] not in ENDED and row["attempt"]]
    return _Known(rows, last_steps(view, begun))
