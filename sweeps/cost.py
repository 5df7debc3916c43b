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
        seconds: per training step: start, evaluations and repeated work included.
        training: of the training step alone.
        devices: how many processes, each with a GPU or CPU cores of its own, trained a cell together; a mean.
        cells: how many were measured.
    """

    seconds: float
    training: float
    devices: float
    cells: int

    @property
    def device_seconds(self) -> float:
        """Of all processes together, per training step."""
        return self.seconds * self.devices


@dataclass(frozen=True)
class Left:
    """What is left to run.

    Attributes:
        hours: of one device, a GPU or the CPU cores of one process, for the cells that can be told.
        unmeasured: how many cells cannot.
        estimated: those of the hours that follow from counted FLOPs, not from measurements.
    """

    hours: float = 0.0
    unmeasured: int = 0
    estimated: float = 0.0

    def __add__(self, other: Left) -> Left:
        sums = self.hours + other.hours, self.unmeasured + other.unmeasured, self.estimated + other.estimated
        return Left(*sums)


class Rates:
    """Rates by likeness: cells of the same study and kind, else of the same study, else of the same kind anywhere.

    Two cells are of a kind if scale, method, model, modules, clip, batch, precision and what learns agree.
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
        self._seconds = {row["cell_hash"]: _device_seconds(row) for _, row in own}

    def of(self, key: StudyKey, kind: str | None = None, alike: bool = False) -> Rate | None:
        """The rate of cells of this study and kind; None without a measurement.

        Args:
            alike: never that of other kinds.
        """
        candidates = [(key, kind), (None, kind)] if alike else [(key, kind), (key, None), (None, kind)]
        return next((self._rates[group] for group in candidates if group in self._rates), None)

    def device_seconds(self, cell_hash: str) -> float | None:
        """Of a cell of these studies, all its attempts and processes together; None if it was not measured."""
        return self._seconds.get(cell_hash)


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
    step = [config["train"].get(name) for name in ("batch_size", "precision", "trained")]
    return json.dumps([*parts, *step], sort_keys=True)


def _without(section: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    return {name: value for name, value in section.items() if name not in names} if section else None


def spent(view: View, keys: Keys = None) -> dict[str, tuple[int, float]]:
    """Outcome -> number of attempts and their seconds, times processes; "running" is what open ones have taken so far.

    The result of a cell says how many processes trained it; a cell without one counts as the cell that was done last.
    An attempt without an end whose cell went on, as earlier versions left them, counts as nothing.
    """
    outcome = sa.func.coalesce(attempts.c.outcome, "running").label("kind")
    now, _ = view.clocks()
    still = sa.and_(cells.c.state == "running", cells.c.attempt == attempts.c.attempt)
    seconds = sa.func.sum(sa.func.coalesce(attempts.c.ended, now) - attempts.c.started).label("seconds")
    columns: Sequence[sa.ColumnElement[Any]] = attempts.c.cell_hash, outcome, sa.func.count().label("number"), seconds
    query = sa.select(*columns).join_from(attempts, cells).where(among(keys))
    query = query.where(sa.or_(attempts.c.ended.is_not(None), still)).group_by(attempts.c.cell_hash, outcome)
    processes, found = _processes(view, keys), dict[str, tuple[int, float]]()
    usual = next(iter(processes.values()), 1)
    for row in view.read(query):
        number, total = found.get(row["kind"], (0, 0.0))
        device_seconds = float(row["seconds"]) * processes.get(row["cell_hash"], usual)
        found[row["kind"]] = number + row["number"], total + device_seconds
    return found


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


def _processes(view: View, keys: Keys) -> dict[str, int]:
    """Hash -> how many processes trained a done cell; the last one first."""
    environment = view.json_at(results.c.result, "environment").label("environment")
    query = sa.select(results.c.cell_hash, environment).join_from(results, cells).where(among(keys))
    rows = view.read(query.order_by(results.c.finished.desc()))
    return {row["cell_hash"]: _number_of(json.loads(row["environment"] or "null")) for row in rows}


def _number_of(environment: Mapping[str, Any] | None) -> int:
    """Of processes; results of earlier versions say nothing of them."""
    return int((environment or {}).get("processes", 1))


def _measured(view: View, keys: Keys) -> Iterator[Row]:
    """The last done cells: hash, config, result, and seconds of all attempts."""
    seconds = sa.select(sa.func.sum(_LENGTH)).where(attempts.c.cell_hash == cells.c.cell_hash).scalar_subquery()
    columns = cells.c.cell_hash, cells.c.config, results.c.result, seconds.label("seconds")
    query = sa.select(*columns).join_from(cells, results).where(among(keys)).order_by(results.c.finished.desc())
    for row in view.read(query.limit(SAMPLE)):
        result = json.loads(row["result"])
        if result.get("steps") and row["seconds"] is not None:
            yield {**row, "result": result}


def _device_seconds(row: Row) -> float:
    return float(row["seconds"]) * _number_of(row["result"].get("environment"))


def _rate(rows: Sequence[Row]) -> Rate:
    steps = sum(row["result"]["steps"] for row in rows)
    seconds = sum(float(row["seconds"]) for row in rows)
    training = sum(row["result"].get("seconds", {}).get("train") or 0.0 for row in rows)
    devices = sum(map(_device_seconds, rows)) / seconds if seconds else 1.0
    return Rate(seconds / steps, training / steps, devices, len(rows))
