"""The ledger as flat tables: trials, their metric rows, their attempts, the AP of each video."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import sqlalchemy as sa

from sweeps.cost import seconds_of
from sweeps.database import Row, cells, metrics
from sweeps.view import Keys, View, among

What = Literal["trials", "metrics", "attempts", "videos"]
CHUNK = 500
"""How many results are held in memory at a time."""

_PLACE = ("experiment", "scale", "number", "seed", "state")
_ORIGIN = (
    *("wall_seconds", "peak_memory_mb", "commit", "dirty", "diff", "source"),
    *("data_fingerprint", "init_fingerprint", "text_fingerprint"),
)
_EXECUTION = ("processes", "device", "threads", "loader_workers", "checkpoint_activations", "deterministic")
_RECORD = ("attempts", "failures", "deaths", "error", "cell_hash", "variant_hash", "run_dir", "started", "finished")


def rows_of(view: View, what: What, keys: Keys = None) -> list[Row]:
    """One table; its rows all have the same columns, in the same order, None where there is no value.

    trials: one row per cell of each study. The others: one per line, attempt or video of each cell, whatever number
    of studies it belongs to; ``number`` is the trial.
    """
    tables: dict[What, Callable[[View, Keys], Iterator[Row]]] = {
        "trials": _trials,
        "metrics": _metrics,
        "attempts": _attempts,
        "videos": _videos,
    }
    rows = list(tables[what](view, keys))
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def _trials(view: View, keys: Keys) -> Iterator[Row]:
    seconds, found = seconds_of(view, keys), view.rows(keys)
    axes = dict.fromkeys(axis for row in found for axis in row["axes"])
    results = {h: _brief(result) for h, result in _results(view, [row["cell_hash"] for row in found])}
    metric_names = dict.fromkeys(name for result in results.values() for name in result["metrics"])
    second_names = dict.fromkeys(name for result in results.values() for name in result["seconds"])
    taken = {*_PLACE, *_ORIGIN, *_RECORD, *metric_names}
    for row in found:
        result = results.get(row["cell_hash"], {"metrics": {}, "seconds": {}})
        yield {
            **{name: row[name] for name in _PLACE[:3]},
            **{f"axis.{axis}" if axis in taken else axis: row["axes"].get(axis) for axis in axes},
            **{name: row[name] for name in _PLACE[3:]},
            **{name: result["metrics"].get(name) for name in metric_names},
            **{f"{name}_seconds": result["seconds"].get(name) for name in second_names},
            **{name: result.get(name) for name in _ORIGIN},
            "wall_seconds": seconds.get(row["cell_hash"]),
            **{name: row["attempt" if name == "attempts" else name] for name in _RECORD},
        }


def _brief(result: Row) -> Row:
    """What one line can hold of a result."""
    kept = {name: result.get(name) for name in _ORIGIN}
    return {**kept, "metrics": result.get("metrics") or {}, "seconds": result.get("seconds") or {}}


def _metrics(view: View, keys: Keys) -> Iterator[Row]:
    hashes = [cell_hash for _, cell_hash in _numbers(view, keys)]
    for start in range(0, len(hashes), CHUNK):
        wanted = metrics.c.cell_hash.in_(hashes[start : start + CHUNK])
        query = sa.select(metrics, cells.c.number).join_from(metrics, cells).where(wanted)
        for row in view.read(query.order_by(cells.c.number, metrics.c.line)):
            place = {name: row[name] for name in ("number", "cell_hash", "line", "attempt")}
            yield place | json.loads(row["row"])


def _attempts(view: View, keys: Keys) -> Iterator[Row]:
    for row in view.attempts(keys):
        ended = row["ended"]
        yield {
            **{name: row[name] for name in ("number", "cell_hash", "attempt", "worker", "started", "ended")},
            "seconds": None if ended is None else ended - row["started"],
            **{name: row[name] for name in ("outcome", "error")},
            **{name: (row["execution"] or {}).get(name) for name in _EXECUTION},
        }


def _videos(view: View, keys: Keys) -> Iterator[Row]:
    numbers = {cell_hash: number for number, cell_hash in _numbers(view, keys)}
    for cell_hash, result in _results(view, list(numbers)):
        tracking = result.get("per_video_tracking") or {}
        for video, ap in (result.get("per_video") or {}).items():
            place: dict[str, Any] = {"number": numbers[cell_hash], "cell_hash": cell_hash, "video": video, "AP": ap}
            yield place | (tracking.get(video) or {})


def _numbers(view: View, keys: Keys) -> list[tuple[int, str]]:
    query = sa.select(cells.c.number, cells.c.cell_hash).where(among(keys)).order_by(cells.c.number)
    return [(row["number"], row["cell_hash"]) for row in view.read(query)]


def _results(view: View, hashes: list[str]) -> Iterator[tuple[str, Row]]:
    """Results in the order of the hashes, some at a time: each may hold hundreds of videos."""
    distinct = list(dict.fromkeys(hashes))
    for start in range(0, len(distinct), CHUNK):
        part = distinct[start : start + CHUNK]
        found = view.results(part)
        yield from ((h, found[h]) for h in part if h in found)
