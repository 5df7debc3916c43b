"""What cells cost: hours that were spent, and measured rates from which the hours that are left follow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sweeps.database import Row, attempts, cells, metrics, results
from sweeps.view import Keys, StudyKey, View, among

SAMPLE = 200
"""How many of the last done cells a rate is measured on."""
_LENGTH = attempts.c.ended - attempts.c.started


@dataclass(frozen=True)
class Rate:
    """Measured on done cells.

    Attributes:
        seconds: of a worker per training step: start, evaluations and repeated work included.
        training: of the training step alone.
        cells: how many were measured.
    """

    seconds: float
    training: float
    cells: int


@dataclass(frozen=True)
class Left:
    """What is left to run.

    Attributes:
        hours: of one worker, for the cells that can be told from measurements.
        unmeasured: how many cells cannot.
    """

    hours: float = 0.0
    unmeasured: int = 0

    def __add__(self, other: Left) -> Left:
        return Left(self.hours + other.hours, self.unmeasured + other.unmeasured)


class Rates:
    """Rates by likeness: cells of the same study and kind, else of the same study, else of the same kind anywhere.

    Two cells are of a kind if scale, method, model, modules, batch and clip agree.
    """

    def __init__(self, view: View, keys: Sequence[StudyKey]):
        own = [(key, row) for key in keys for row in _measured(view, [key])]
        others = [(None, row) for row in _measured(view, None)]
        groups: dict[tuple[StudyKey | None, str | None], dict[str, Row]] = {}
        for key, row in [*own, *others]:
            kind = kind_of(json.loads(row["config"]))
            for group in {(key, kind), (key, None) if key else (key, kind)}:
                groups.setdefault(group, {})[row["cell_hash"]] = row
        self._rates = {group: _rate(list(rows.values())) for group, rows in groups.items()}

    def of(self, key: StudyKey, kind: str | None = None) -> Rate | None:
        """The rate of cells of this study and kind; None without a measurement."""
        candidates = [(key, kind), (key, None), (None, kind)]
        return next((self._rates[group] for group in candidates if group in self._rates), None)


def kind_of(config: Mapping[str, Any]) -> str:
    """What the cost of a step depends on, as text.

    The whole sections of method, model and modules, but for weights, and Nk, which hardly changes it.
    """
    clip = {name: config["data"].get(name) for name in ("frames", "short_side", "max_size", "crop")}
    modules = [
        _without(config.get("sync"), ("momentum", "num_selected")),
        _without(config.get("subclips"), ("weights", "factor")),
    ]
    parts = [config.get("scale"), config.get("method"), config.get("model"), *modules, clip]
    return json.dumps([*parts, config["train"].get("batch_size")], sort_keys=True)


def _without(section: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    return {name: value for name, value in section.items() if name not in names} if section else None


def spent(view: View, keys: Keys = None) -> dict[str, tuple[int, float]]:
    """Outcome -> number of attempts and their seconds; "running" is what the open ones have taken so far.

    One without an end whose cell went on, as earlier versions left them, counts as nothing.
    """
    outcome = sa.func.coalesce(attempts.c.outcome, "running").label("kind")
    now, _ = view.clocks()
    still = sa.and_(cells.c.state == "running", cells.c.attempt == attempts.c.attempt)
    seconds = sa.func.sum(sa.func.coalesce(attempts.c.ended, now) - attempts.c.started).label("seconds")
    columns: Sequence[sa.ColumnElement[Any]] = outcome, sa.func.count().label("number"), seconds
    query = sa.select(*columns).join_from(attempts, cells).where(among(keys))
    query = query.where(sa.or_(attempts.c.ended.is_not(None), still)).group_by(outcome)
    return {row["kind"]: (row["number"], float(row["seconds"])) for row in view.read(query)}


def seconds_of(view: View, keys: Keys = None) -> dict[str, float]:
    """Hash -> seconds of all ended attempts of a cell."""
    query = sa.select(attempts.c.cell_hash, sa.func.sum(_LENGTH).label("seconds")).join_from(attempts, cells)
    query = query.where(among(keys), attempts.c.ended.is_not(None)).group_by(attempts.c.cell_hash)
    return {row["cell_hash"]: float(row["seconds"]) for row in view.read(query)}


def last_steps(view: View, hashes: Sequence[str]) -> dict[str, int]:
    """Hash -> the last step that a cell has logged."""
    last = sa.select(metrics.c.cell_hash, sa.func.max(metrics.c.line).label("line"))
    newest = last.where(metrics.c.cell_hash.in_(hashes)).group_by(metrics.c.cell_hash).subquery()
    same = sa.and_(metrics.c.cell_hash == newest.c.cell_hash, metrics.c.line == newest.c.line)
    query = sa.select(metrics.c.cell_hash, metrics.c.row).join(newest, same)
    return {row["cell_hash"]: int(json.loads(row["row"])["step"]) for row in view.read(query)}


def durations(view: View, keys: Keys, number: int) -> list[float]:
    """Seconds of the last cells that ended, all their attempts together; the newest first."""
    ended = cells.c.state.in_(("done", "pruned"))
    query = sa.select(sa.func.sum(_LENGTH).label("seconds")).join_from(attempts, cells).where(ended, among(keys))
    newest = query.group_by(cells.c.cell_hash, cells.c.finished).order_by(cells.c.finished.desc()).limit(number)
    return [float(row["seconds"] or 0) for row in view.read(newest)]


def _measured(view: View, keys: Keys) -> Iterator[Row]:
    """The last done cells: hash, config, result, and seconds of all attempts."""
    seconds = sa.select(sa.func.sum(_LENGTH)).where(attempts.c.cell_hash == cells.c.cell_hash).scalar_subquery()
    columns = cells.c.cell_hash, cells.c.config, results.c.result, seconds.label("seconds")
    query = sa.select(*columns).join_from(cells, results).where(among(keys)).order_by(results.c.finished.desc())
    for row in view.read(query.limit(SAMPLE)):
        result = json.loads(row["result"])
        if result.get("steps") and row["seconds"] is not None:
            yield {**row, "result": result}


def _rate(rows: Sequence[Row]) -> Rate:
    steps = sum(row["result"]["steps"] for row in rows)
    training = sum(row["result"].get("seconds", {}).get("train") or 0.0 for row in rows)
    return Rate(sum(float(row["seconds"]) for row in rows) / steps, training / steps, len(rows))
