"""How studies stand, from the ledger alone: quick for thousands of trials."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import sqlalchemy as sa

from sweeps.cost import durations
from sweeps.database import Row, State, cells, members
from sweeps.progress import names_of
from sweeps.view import OPEN, Keys, StudyKey, View, among

MAX_RUNNING = 100
MAX_TROUBLES = 20
NEWEST = 20
"""How many of the last ended cells the throughput is measured on."""


@dataclass(frozen=True)
class Running:
    """A running trial.

    Attributes:
        step, steps: the last one that is logged, and how many there are.
        ap: of the last evaluation, percent.
        lease_left: seconds until another worker may take it over; every beat makes it as long as the lease again.
    """

    number: int
    name: str
    step: int
    steps: int
    ap: float | None
    attempt: int
    worker: str
    lease_left: float


@dataclass(frozen=True)
class Overview:
    """How studies stand.

    Attributes:
        studies: study -> state -> cells; a cell of two studies counts in both.
        stopping: studies whose workers were asked to stop.
        total: the same of all of them, each cell once.
        seconds_per_cell: of a worker, over the last cells that ended; None before the first.
        troubles: cells that failed and are not done, given up ones first; at most MAX_TROUBLES of ``all_troubles``.
        names: hash -> name of the cells in ``troubles``.
    """

    studies: dict[StudyKey, dict[State, int]]
    stopping: frozenset[StudyKey]
    total: dict[State, int]
    running: Sequence[Running]
    seconds_per_cell: float | None
    troubles: Sequence[Row]
    all_troubles: int
    names: dict[str, str]

    @property
    def cells_per_hour(self) -> float | None:
        """What the running trials make together; None if nothing runs or nothing was measured."""
        if not self.seconds_per_cell or not self.total["running"]:
            return None
        return 3600 * self.total["running"] / self.seconds_per_cell

    @property
    def seconds_left(self) -> float | None:
        """Until all cells have ended, if the cells that are left are like the last ones."""
        left, speed = sum(self.total[state] for state in OPEN), self.cells_per_hour
        return 3600 * left / speed if speed else None


def overview(view: View, keys: Keys = None) -> Overview:
    """One look at these studies."""
    known = view.studies(keys)
    troubles, all_troubles = _troubles(view, keys)
    seconds = durations(view, keys, NEWEST)
    return Overview(
        studies={key: _no_cells() for key in known} | _counts(view, keys),
        stopping=frozenset(key for key, study in known.items() if study.stopping),
        total=view.counts(keys),
        running=_running(view, keys),
        seconds_per_cell=sum(seconds) / len(seconds) if seconds else None,
        troubles=troubles,
        all_troubles=all_troubles,
        names=names_of(view, troubles),
    )


def log_of(row: Row) -> Path:
    """The file that says most about why a cell failed."""
    run_dir = Path(row["run_dir"])
    error, log = run_dir / "error.log", run_dir / f"attempt-{row['attempt']}.log"
    return log if log.exists() and not error.exists() else error


def _no_cells() -> dict[State, int]:
    return dict.fromkeys(get_args(State), 0)


def _counts(view: View, keys: Keys) -> dict[StudyKey, dict[State, int]]:
    place = members.c.experiment, members.c.scale, cells.c.state
    query = sa.select(*place, sa.func.count().label("number")).join_from(members, cells).group_by(*place)
    counts: dict[StudyKey, dict[State, int]] = {}
    for row in view.read(query):
        key = StudyKey(row["experiment"], row["scale"])
        if keys is None or key in keys:
            counts.setdefault(key, _no_cells())[row["state"]] = row["number"]
    return counts


def _running(view: View, keys: Keys) -> list[Running]:
    query = sa.select(cells).where(cells.c.state == "running", among(keys)).order_by(cells.c.number)
    rows = view.read(query.limit(MAX_RUNNING))
    names, (_, clock) = names_of(view, rows), view.clocks()
    return [_running_one(view, row, names.get(row["cell_hash"]) or row["cell_hash"], clock) for row in rows]


def _running_one(view: View, row: Row, name: str, clock: float) -> Running:
    step, ap = view.latest(row["cell_hash"])
    return Running(
        number=row["number"],
        name=name,
        step=step,
        steps=json.loads(row["config"])["train"]["steps"],
        ap=ap,
        attempt=row["attempt"],
        worker=row["worker"] or "",
        lease_left=max(row["lease_until"] - clock, 0.0),
    )


def _troubles(view: View, keys: Keys) -> tuple[list[Row], int]:
    failed = sa.or_(cells.c.state == "gave_up", sa.and_(cells.c.state.in_(OPEN), cells.c.error.is_not(None)))
    columns = [column for column in cells.c if column.name != "config"]
    order = (cells.c.state != "gave_up", cells.c.number)
    rows = view.read(sa.select(*columns).where(failed, among(keys)).order_by(*order).limit(MAX_TROUBLES))
    number = sa.select(sa.func.count().label("number")).select_from(cells).where(failed, among(keys))
    return rows, view.read(number)[0]["number"]


def stamp() -> str:
    """The time of day, for a display that refreshes."""
    return time.strftime("%H:%M:%S")
