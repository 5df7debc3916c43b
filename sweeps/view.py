"""What the ledger says: questions that change nothing, each one transaction, none slower for a longer history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import sqlalchemy as sa

from sweeps.database import Database, Row, State, attempts, cells, executions, members, metrics, results, studies
from syncvis.errors import ConfigError

OPEN: tuple[State, ...] = ("planned", "running")
ENDED: tuple[State, ...] = ("done", "pruned", "gave_up")
_HAS_AP = metrics.c.row.contains('"eval/AP":')
BRIEF = [column for column in cells.c if column.name != "config"]


class StudyKey(NamedTuple):
    """One experiment at one scale: what a sweep runs and Optuna calls a study."""

    experiment: str
    scale: str

    @property
    def name(self) -> str:
        """``nk-small``, ``nk@ovis_r50-paper``."""
        return f"{self.experiment}-{self.scale}"

    @property
    def id(self) -> str:
        """Of the experiment, without the recipe that it stands on: ``nk``."""
        return self.experiment.partition("@")[0]

    @classmethod
    def parse(cls, name: str) -> StudyKey:
        """From ``nk-small``; raises ConfigError for anything else."""
        experiment, _, scale = name.rpartition("-")
        if not experiment or not scale:
            raise ConfigError(f"{name!r} names no study", key="study", fix="give it as EXPERIMENT-SCALE: nk-small")
        return cls(experiment, scale)


@dataclass(frozen=True)
class StoredStudy:
    """A study as stored: its definition (JSON types), how many cells it has, and whether it was asked to stop."""

    key: StudyKey
    definition: dict[str, Any]
    size: int
    run_root: str
    exhausted: bool
    stopping: bool

    @property
    def is_searched(self) -> bool:
        """Whether its cells are chosen one by one."""
        return self.definition.get("search") is not None

    @property
    def may_grow(self) -> bool:
        """Whether another cell may be chosen."""
        return self.is_searched and not self.exhausted and not self.stopping

    @property
    def prunes(self) -> bool:
        """Whether its cells may end early."""
        return bool((self.definition.get("search") or {}).get("pruner"))


Keys = Sequence[StudyKey] | None


class View:
    """Questions about cells; ``keys`` limits them to some studies, None means all cells."""

    def __init__(self, database: Database):
        self._database = database

    @property
    def place(self) -> str:
        """The file or URL, without a password."""
        return self._database.name

    def studies(self, keys: Keys = None) -> dict[StudyKey, StoredStudy]:
        """The studies, in the order in which they were added."""
        query = sa.select(studies).where(is_one_of(studies, keys))
        found = {}
        for row in self._database.read(query.order_by(studies.c.created, studies.c.experiment)):
            key, definition = StudyKey(row["experiment"], row["scale"]), json.loads(row["definition"])
            found[key] = StoredStudy(key, definition, row["size"], row["run_root"], row["exhausted"], row["stopping"])
        return found

    def read(self, query: sa.Select[Any]) -> list[Row]:
        """Rows of any other question on the ledger's tables, with its patience and errors."""
        return self._database.read(query)

    def clocks(self) -> tuple[float, float]:
        """Now: seconds since 1970 on the database's clock, and on the clock that leases are counted on."""
        return self._database.run(lambda c: (self._database.now(c), self._database.lease_clock(c)))

    def json_at(self, column: sa.ColumnElement[str], key: str) -> sa.ColumnElement[Any]:
        """The text of a top-level key of a column that holds a JSON object, taken out by the database."""
        if self._database.is_sqlite:
            return sa.func.json_extract(column, f'$."{key}"')
        return sa.func.json_extract_path_text(sa.cast(column, sa.JSON), key)

    def counts(self, keys: Keys = None) -> dict[State, int]:
        """How many cells are in each state."""
        query = sa.select(cells.c.state, sa.func.count().label("number")).where(among(keys))
        found = {row["state"]: row["number"] for row in self._database.read(query.group_by(cells.c.state))}
        return {state: found.get(state, 0) for state in get_args(State)}

    def is_over(self, keys: Keys = None) -> bool:
        """Whether no cell is left to run, or running."""
        return not self._database.read(sa.select(cells.c.number).where(cells.c.state.in_(OPEN), among(keys)).limit(1))

    def number_of_claims(self, keys: Keys = None) -> int:
        """How often a cell was claimed."""
        (row,) = self._database.read(sa.select(sa.func.sum(cells.c.attempt).label("sum")).where(among(keys)))
        return row["sum"] or 0

    def may_grow(self, keys: Keys = None) -> bool:
        """Whether a study may get another cell."""
        return any(stored.may_grow for stored in self.studies(keys).values())

    def cells(self, keys: Keys = None, states: Sequence[State] | None = None) -> list[Row]:
        """All columns but the config, by number."""
        query = sa.select(*BRIEF).where(among(keys))
        query = query if states is None else query.where(cells.c.state.in_(states))
        return self._database.read(query.order_by(cells.c.number))

    def ended(self, keys: Keys = None, since: float = 0.0) -> list[Row]:
        """The same of the cells that ended then or later (seconds since 1970), in the order of their ends."""
        query = sa.select(*BRIEF).where(cells.c.finished >= since, among(keys))
        return self._database.read(query.order_by(cells.c.finished, cells.c.number))

    def is_running(self, number: int, attempt: int) -> bool:
        """Whether this attempt still owns its cell."""
        mine = cells.c.number == number, cells.c.attempt == attempt, cells.c.state == "running"
        return bool(self._database.read(sa.select(cells.c.number).where(*mine)))

    def cell(self, number: int) -> Row | None:
        """All columns of one cell, by its trial number."""
        return next(iter(self._database.read(sa.select(cells).where(cells.c.number == number))), None)

    def rows(self, keys: Keys = None) -> list[Row]:
        """One row per (experiment, scale, cell), in plan order: ``axes`` (a dict) and the cell's columns."""
        others = [column for column in BRIEF if column.name != "cell_hash"]
        query = sa.select(members, *others).join_from(members, cells).where(is_one_of(members, keys))
        found = self._database.read(query.order_by(members.c.experiment, members.c.scale, members.c.position))
        return [{**row, "axes": json.loads(row["axes"])} for row in found]

    def results(self, hashes: Sequence[str] | None = None) -> dict[str, Row]:
        """Hash -> result (``RunResult.to_json()``) of the done cells."""
        query = sa.select(results.c.cell_hash, results.c.result)
        query = query if hashes is None else query.where(results.c.cell_hash.in_(hashes))
        return {row["cell_hash"]: json.loads(row["result"]) for row in self._database.read(query)}

    def metrics(
        self, cell_hash: str, after: int = -1, attempt: int | None = None, limit: int | None = None
    ) -> dict[int, Row]:
        """Line number -> row of a cell's metrics, in order; only lines greater than ``after``, and of one attempt."""
        query = sa.select(metrics.c.line, metrics.c.row).where(metrics.c.cell_hash == cell_hash)
        query = query if attempt is None else query.where(metrics.c.attempt == attempt)
        found = self._database.read(query.where(metrics.c.line > after).order_by(metrics.c.line).limit(limit))
        return {row["line"]: json.loads(row["row"]) for row in found}

    def final_values(self, key: StudyKey) -> dict[str, float]:
        """Hash -> AP of the study's done cells."""
        same = members.c.cell_hash == results.c.cell_hash
        query = sa.select(results.c.cell_hash, self.json_at(results.c.result, "metrics").label("metrics"))
        found = self._database.read(query.join(members, same).where(is_one_of(members, [key])))
        return {row["cell_hash"]: json.loads(row["metrics"])["AP"] for row in found}

    def reports(self, key: StudyKey) -> dict[str, dict[int, float]]:
        """Hash -> training step -> AP of the study's cells, done or not."""
        same = members.c.cell_hash == metrics.c.cell_hash
        query = sa.select(metrics.c.cell_hash, metrics.c.row).join(members, same)
        found: dict[str, dict[int, float]] = {}
        for row in self._database.read(query.where(is_one_of(members, [key]), _HAS_AP)):
            metric = json.loads(row["row"])
            if isinstance(metric["eval/AP"], int | float):
                found.setdefault(row["cell_hash"], {})[metric["step"]] = metric["eval/AP"]
        return found

    def latest(self, cell_hash: str) -> tuple[int, float | None]:
        """The last step that a cell logged, 0 before the first, and its last AP, however long ago that was."""
        query = sa.select(metrics.c.row).where(metrics.c.cell_hash == cell_hash, _HAS_AP)
        evaluated = self._database.read(query.order_by(metrics.c.line.desc()).limit(1))
        ap = json.loads(evaluated[0]["row"])["eval/AP"] if evaluated else None
        return next((int(row["step"]) for row in self.last_metrics(cell_hash, 1)), 0), ap

    def last_metrics(self, cell_hash: str, number: int) -> list[Row]:
        """The last rows of a cell's metrics, in order."""
        query = sa.select(metrics.c.row).where(metrics.c.cell_hash == cell_hash).order_by(metrics.c.line.desc())
        return [json.loads(row["row"]) for row in reversed(self._database.read(query.limit(number)))]

    def axes(self, hashes: Sequence[str]) -> dict[str, tuple[str, Row]]:
        """Hash -> the first experiment that has the cell, and the labels of its axes there."""
        query = sa.select(members.c.cell_hash, members.c.experiment, members.c.axes)
        found = self._database.read(query.where(members.c.cell_hash.in_(hashes)).order_by(members.c.experiment.desc()))
        return {row["cell_hash"]: (row["experiment"], json.loads(row["axes"])) for row in found}

    def attempts(self, keys: Keys = None, number: int | None = None) -> list[Row]:
        """Every claim of the cells, or of the one with this trial number: worker, times, outcome, error.

        And ``execution``: the fields of an ``Execution`` and ``processes``; None where the attempt noted none.
        """
        same = sa.and_(executions.c.cell_hash == attempts.c.cell_hash, executions.c.attempt == attempts.c.attempt)
        told = executions.c.processes, executions.c.execution
        query = sa.select(attempts, cells.c.number, *told).join_from(attempts, cells).outerjoin(executions, same)
        query = query.where(among(keys) if number is None else sa.and_(among(keys), cells.c.number == number))
        return [_with_execution(row) for row in self._database.read(query.order_by(cells.c.number, attempts.c.attempt))]

    def cell_of(self, cell_hash: str) -> Row:
        """All columns of one cell, by its hash."""
        (row,) = self._database.read(sa.select(cells).where(cells.c.cell_hash == cell_hash))
        return row

    def memberships(self, cell_hash: str) -> list[tuple[StudyKey, Row]]:
        """The studies that have the cell, and the labels of its axes there."""
        query = sa.select(members).where(members.c.cell_hash == cell_hash)
        found = self._database.read(query.order_by(members.c.experiment, members.c.scale))
        return [(StudyKey(row["experiment"], row["scale"]), json.loads(row["axes"])) for row in found]

    def is_stopping(self, keys: Keys = None) -> bool:
        """Whether all of these studies were asked to stop."""
        found = self._database.read(sa.select(studies.c.stopping).where(is_one_of(studies, keys)))
        return bool(found) and all(row["stopping"] for row in found)


def _with_execution(row: Row) -> Row:
    """``processes`` and the JSON of ``execution`` as one entry."""
    processes, text = row.pop("processes"), row["execution"]
    return row | {"execution": None if text is None else {"processes": processes} | json.loads(text)}


def among(keys: Keys) -> sa.ColumnElement[bool]:
    """The condition that a cell belongs to one of these studies."""
    if keys is None:
        return sa.true()
    mine = sa.and_(members.c.cell_hash == cells.c.cell_hash, is_one_of(members, keys))
    return exists_for_each_cell(sa.select(sa.literal(1)).select_from(members).where(mine))


def exists_for_each_cell(query: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Whether a question about a cell has an answer, asked cell by cell.

    Without the offset PostgreSQL answers it for all cells at once, even where one planned cell is looked for.
    """
    return sa.exists(query.correlate(cells).offset(0))


def is_one_of(table: sa.Table, keys: Keys) -> sa.ColumnElement[bool]:
    """The condition that a row of ``studies`` or ``members`` is of one of these studies."""
    if keys is None:
        return sa.true()
    return sa.tuple_(table.c.experiment, table.c.scale).in_([tuple(key) for key in keys])
