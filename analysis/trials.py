"""The ledger as tidy pandas frames, read once and in one statement."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy

from analysis.experiments import as_label
from syncvis.errors import StorageError

AXIS = "axis."  # prefix of an axis column, so that an axis may have any name

# One statement, so that a sweep that is running cannot change the answer half-way.
QUERY = """
SELECT m.experiment, m.scale, m.cell_hash, m.position, m.axes, c.variant_hash, c.seed, c.config, c.state,
       c.attempt, c.error, c.run_dir, r.result, COALESCE(r.finished, c.finished) AS finished
FROM members AS m
LEFT JOIN cells AS c ON c.cell_hash = m.cell_hash
LEFT JOIN results AS r ON r.cell_hash = m.cell_hash
ORDER BY m.experiment, m.scale, m.position, m.cell_hash
"""

CELL_COLUMNS = [
    *("experiment", "scale", "cell_hash", "variant_hash", "seed", "position", "state", "attempt", "error"),
    *("run_dir", "finished", "steps", "seconds", "peak_memory_mb", "commit", "dirty"),
    *("data", "data_fingerprint", "method", "environment"),
]
CARRIED = ["commit", "dirty", "seconds", "peak_memory_mb", "steps", "run_dir", "finished"]


@dataclass(frozen=True)
class Trials:
    """Everything the ledger knows, tidy; axis columns are called ``axis.<name>``.

    Attributes:
        values: one row per (experiment, scale, cell_hash, seed, axes, metric): ``value`` (AP, AR: percent)
            and ``commit, dirty, seconds, peak_memory_mb, steps, run_dir, finished``. Finished cells only.
        history: one row per (cell_hash, step, metric): ``value``.
        per_video: one row per (cell_hash, video_id): ``AP`` in percent.
        cells: one row per (experiment, scale, cell_hash), finished or not: ``state`` is planned, running,
            done or gave_up; a done cell without a result, or a member without a cell, is ``missing``.
    """

    values: pd.DataFrame
    history: pd.DataFrame
    per_video: pd.DataFrame
    cells: pd.DataFrame


def load_trials(ledger_path: Path) -> Trials:
    """Read the ledger without changing it.

    Raises:
        StorageError: The file is missing, empty, not a ledger, or holds a damaged row.
    """
    rows = _query(ledger_path)
    cells, metrics, history, videos = [], [], [], []
    seen: set[str] = set()
    for row in rows:
        result = _json(row["result"], ledger_path, f"results {row['cell_hash']}") if row["state"] == "done" else {}
        cell = _cell(row, result, ledger_path)
        cells.append(cell)
        metrics += [
            {
                "experiment": cell["experiment"],
                "scale": cell["scale"],
                "cell_hash": cell["cell_hash"],
                **value,
            }
            for value in _numbers(result.get("metrics"), "metric", "value")
        ]
        if cell["cell_hash"] not in seen:
            seen.add(cell["cell_hash"])
            history += _history(result, cell["cell_hash"])
            videos += [
                {"cell_hash": cell["cell_hash"], **video}
                for video in _numbers(result.get("per_video"), "video_id", "AP")
            ]
    axes = dict.fromkeys(name for cell in cells for name in cell if name.startswith(AXIS))
    frame = labelled(cells, axes).reindex(columns=[*CELL_COLUMNS, *axes])
    return Trials(
        values=_values(metrics, frame),
        history=pd.DataFrame(history, columns=["cell_hash", "step", "metric", "value"]),
        per_video=pd.DataFrame(videos, columns=["cell_hash", "video_id", "AP"]),
        cells=frame,
    )


def axis_columns(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame if str(name).startswith(AXIS)]


def labelled(rows: list[dict[str, Any]], axes: Iterable[str]) -> pd.DataFrame:
    """A frame in which the axis columns keep their labels as they are: 10 stays 10 beside 0.05 or nothing."""
    frame = pd.DataFrame(rows)
    for axis in axes:
        frame[axis] = pd.Series([row.get(axis) for row in rows], dtype=object)
    return frame


def _query(path: Path) -> list[dict[str, Any]]:
    if not path.is_file() or path.stat().st_size == 0:
        raise StorageError(
            "no ledger here", file=path, fix="fill it with `syncvis sweep run EXPERIMENT`, or give --out"
        )
    address = f"{path.resolve().as_uri()}?mode=ro"
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True))
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(sqlalchemy.text(QUERY)).mappings()]
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        fix = "restore the file, or build a new one with `syncvis sweep run EXPERIMENT`"
        raise StorageError(f"is not a readable ledger ({reason})", file=path, fix=fix) from None
    finally:
        engine.dispose()


def _cell(row: dict[str, Any], result: dict[str, Any], path: Path) -> dict[str, Any]:
    place = f"{row['experiment']} {row['cell_hash']}"
    config = _json(row.pop("config"), path, f"cells {place}")
    axes = _json(row.pop("axes"), path, f"members {place}")
    lost = row["state"] is None or (row["state"] == "done" and not result)
    seconds = result.get("seconds")
    return {
        **{key: value for key, value in row.items() if key != "result"},
        "state": "missing" if lost else row["state"],
        "finished": row["finished"] if result else None,
        "steps": result.get("steps"),
        "seconds": seconds.get("total") if isinstance(seconds, dict) else seconds,
        "peak_memory_mb": result.get("peak_memory_mb"),
        "commit": result.get("commit"),
        "dirty": result.get("dirty"),
        "data": Path(str((config.get("data") or {}).get("root", ""))).name,
        "data_fingerprint": result.get("data_fingerprint"),
        "method": (config.get("method") or {}).get("name"),
        "environment": json.dumps(result.get("environment") or {}, sort_keys=True),
        **{AXIS + axis: as_label(value) for axis, value in axes.items()},
    }


def _json(text: str | None, path: Path, key: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise StorageError("holds damaged JSON", file=path, key=key, fix="plan and run this cell again")
    return value


def _history(result: dict[str, Any], cell_hash: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for entry in result.get("history") or []:
        numbers = _numbers({key: value for key, value in entry.items() if key != "step"}, "metric", "value")
        rows += [{"cell_hash": cell_hash, "step": entry.get("step"), **number} for number in numbers]
    return rows


def _numbers(mapping: dict[str, Any] | None, name: str, value: str) -> list[dict[str, Any]]:
    return [{name: key, value: math.nan if v is None else float(v)} for key, v in (mapping or {}).items()]


def _values(metrics: list[dict[str, Any]], cells: pd.DataFrame) -> pd.DataFrame:
    key = ["experiment", "scale", "cell_hash"]
    axes = axis_columns(cells)
    values = pd.DataFrame(metrics, columns=[*key, "metric", "value"])
    carried = cells[[*key, "seed", *axes, *CARRIED]]
    merged = values.merge(carried, on=key, how="left", validate="many_to_one")
    return merged[[*key, "seed", *axes, "metric", "value", *CARRIED]]
