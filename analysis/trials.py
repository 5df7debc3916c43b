"""The ledger as tidy pandas frames of one moment."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.experiments import Definition, as_label, read_definition
from analysis.ledger import Row, read_ledger
from syncvis.errors import StorageError
from syncvis.source import PLUGIN_FOLDER

AXIS = "axis."  # prefix of an axis column, so that an axis may have any name

CELL_COLUMNS = [
    *("experiment", "scale", "cell_hash", "number", "seed", "position", "config", "state", "attempt", "error"),
    *("run_dir", "finished", "steps", "seconds", "peak_memory_mb", "commit", "dirty", "diff", "source", "changed"),
    *("plugins", "begun_elsewhere"),
    *("data", "data_fingerprint", "method", "environment"),
]
CARRIED = ["commit", "dirty", "seconds", "peak_memory_mb", "steps", "run_dir", "finished"]


@dataclass(frozen=True)
class Trials:
    """Everything the ledger knows, tidy; axis columns are called ``axis.<name>``, None where there is no such axis.

    Attributes:
        values: one row per (experiment, scale, cell_hash, seed, axes, metric): ``value`` (AP, AR: percent)
            and ``commit, dirty, seconds, peak_memory_mb, steps, run_dir, finished``. Finished cells only.
        history: one row per (cell_hash, step, metric): ``value``.
        per_video: one row per (cell_hash, video_id): ``AP`` in percent.
        cells: one row per (experiment, scale, cell_hash), finished or not; ``number`` is the trial number, and
            ``state`` is planned, running, done, pruned or gave_up; a done cell without a result, or a member
            without a cell, is ``missing``, a result of fewer steps than its config asks for is ``short``;
            ``source`` is the fingerprint of the workbench alone, ``plugins`` JSON of file -> SHA-256 of modules of
            one's own; ``begun_elsewhere``: an earlier attempt ran another source.
        reports: hash -> AP at the last evaluation of each pruned cell, in percent.
        studies: (experiment, scale) -> its definition.
        place: the ledger's file, or its URL without the password.
    """

    values: pd.DataFrame
    history: pd.DataFrame
    per_video: pd.DataFrame
    cells: pd.DataFrame
    reports: dict[str, float]
    studies: dict[tuple[str, str], Definition]
    place: str


def load_trials(ledger: str | Path) -> Trials:
    """Read the ledger, a SQLite file or a PostgreSQL URL, without changing it.

    Raises:
        StorageError: It cannot be read, is not a ledger, or holds a damaged row or the result of another cell.
    """
    found = read_ledger(ledger)
    cells, metrics, history, videos = [], [], [], []
    codes: dict[str, set[str]] = {}
    for row in found.sources:
        codes.setdefault(row["cell_hash"], set()).add(row["code"])
    seen: set[str] = set()
    for row in found.cells:
        result = _result(row, found.place)
        cell = _cell(row, result, found.place)
        ran = result.get("source")
        cell["begun_elsewhere"] = bool(codes.get(cell["cell_hash"], set()) - {ran} and ran)
        cells.append(cell)
        values, steps, per_video = _all_numbers(result, found.place, f"results {cell['cell_hash']}")
        name = {key: cell[key] for key in ("experiment", "scale", "cell_hash")}
        metrics += [{**name, **value} for value in values]
        if cell["cell_hash"] not in seen:
            seen.add(cell["cell_hash"])
            history += [{"cell_hash": cell["cell_hash"], **value} for value in steps]
            videos += [{"cell_hash": cell["cell_hash"], **video} for video in per_video]
    axes = dict.fromkeys(name for cell in cells for name in cell if name.startswith(AXIS))
    frame = labelled(cells, axes).reindex(columns=[*CELL_COLUMNS, *axes])
    frame = frame if cells else frame.astype(object)
    return Trials(
        values=_values(metrics, frame),
        history=pd.DataFrame(history, columns=["cell_hash", "step", "metric", "value"]),
        per_video=pd.DataFrame(videos, columns=["cell_hash", "video_id", "AP"]),
        cells=frame,
        reports=_reports(found.reports, found.place),
        studies={
            (row["experiment"], row["scale"]): read_definition(
                row["definition"], found.place, f"studies {row['experiment']}-{row['scale']}"
            )
            for row in found.studies
        },
        place=found.place,
    )


def axis_columns(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame if str(name).startswith(AXIS)]


def used_axes(cells: pd.DataFrame) -> list[str]:
    """The axis columns in which some of these cells have a label."""
    return [name for name in axis_columns(cells) if cells[name].notna().any()]


def labelled(rows: list[Row], axes: Iterable[str]) -> pd.DataFrame:
    """A frame in which the axis columns keep their labels as they are: 10 stays 10 beside 0.05 or nothing."""
    frame = pd.DataFrame(rows)
    for axis in axes:
        frame[axis] = pd.Series([row.get(axis) for row in rows], dtype=object)
    return frame


def _data_name(root: Path) -> str:
    """Of a data set's folder; with that of the folder above where it is that of a split alone, as in benchmarks."""
    return f"{root.parent.name}/{root.name}" if root.name in ("train", "valid", "test") else root.name


def _result(row: Row, place: str) -> Row:
    """The result of a done cell, empty for another one.

    Raises:
        StorageError: It is damaged, or says that it is of another cell or seed.
    """
    if row["state"] != "done" or row["result"] is None:
        return {}
    key = f"results {row['cell_hash']}"
    result = _json(row["result"], place, key)
    stored, own = (result.get("cell_hash"), result.get("seed")), (row["cell_hash"], row["seed"])
    if stored != own:
        problem = f"holds the result of run {stored[0]}, seed {stored[1]}, not of run {own[0]}, seed {own[1]}"
        raise StorageError(problem, file=place, key=key, fix="restore the ledger from a copy")
    return result


def _reports(rows: list[Row], place: str) -> dict[str, float]:
    """Hash -> the last of its evaluations that is a number."""
    found = {}
    for row in rows:
        value = _json(row["report"], place, f"metrics {row['cell_hash']}, line {row['line']}").get("eval/AP")
        if isinstance(value, int | float) and math.isfinite(value):
            found[row["cell_hash"]] = float(value)
    return found


def _cell(row: Row, result: Row, place: str) -> Row:
    name = f"{row['experiment']} {row['cell_hash']}"
    config = _json(row["config"], place, f"cells {name}")
    axes = _json(row.pop("axes"), place, f"members {name}")
    seconds = result.get("seconds")
    return {
        **{key: value for key, value in row.items() if key != "result"},
        "state": _state(row, result, config),
        "finished": row["finished"] if result else None,
        "steps": result.get("steps"),
        "seconds": seconds.get("total") if isinstance(seconds, dict) else seconds,
        "peak_memory_mb": result.get("peak_memory_mb"),
        "commit": result.get("commit"),
        "dirty": result.get("dirty"),
        "diff": result.get("diff"),
        "source": result.get("workbench") or result.get("source"),
        "changed": any(not name.startswith(f"{PLUGIN_FOLDER}/") for name in result.get("changed") or ()),
        "plugins": json.dumps(result.get("plugins") or {}, sort_keys=True),
        "data": _data_name(Path(str((config.get("data") or {}).get("root", "")))),
        "data_fingerprint": result.get("data_fingerprint"),
        "method": (config.get("method") or {}).get("name"),
        "environment": json.dumps(result.get("environment") or {}, sort_keys=True),
        **{AXIS + axis: as_label(value) for axis, value in axes.items()},
    }


def _state(row: Row, result: Row, config: Row) -> str:
    if row["state"] is None or (row["state"] == "done" and not result):
        return "missing"
    budget = (config.get("train") or {}).get("steps")
    if row["state"] == "done" and budget is not None and result.get("steps") != budget:
        return "short"
    return str(row["state"])


def _json(text: str | None, place: str, key: str) -> Row:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise StorageError("holds damaged JSON", file=place, key=key, fix="restore the ledger from a copy")
    return value


def _all_numbers(result: Row, place: str, key: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Metrics, history and per-video AP of a result; null, which stands for a number that is not finite, is NaN."""
    try:
        metrics = _numbers(result.get("metrics"), "metric", "value")
        history = [row for entry in result.get("history") or [] for row in _evaluation(entry)]
        return metrics, history, _numbers(result.get("per_video"), "video_id", "AP")
    except (AttributeError, TypeError, ValueError):
        fix = "restore the ledger from a copy"
        raise StorageError("holds metrics that are no numbers", file=place, key=key, fix=fix) from None


def _evaluation(entry: Row) -> list[Row]:
    numbers = _numbers({key: value for key, value in entry.items() if key != "step"}, "metric", "value")
    return [{"step": entry.get("step"), **number} for number in numbers]


def _numbers(mapping: Row | None, name: str, value: str) -> list[Row]:
    return [{name: key, value: math.nan if v is None else float(v)} for key, v in (mapping or {}).items()]


def _values(metrics: list[Row], cells: pd.DataFrame) -> pd.DataFrame:
    key = ["experiment", "scale", "cell_hash"]
    axes = axis_columns(cells)
    values = pd.DataFrame(metrics, columns=[*key, "metric", "value"])
    carried = cells[[*key, "seed", *axes, *CARRIED]]
    merged = values.merge(carried, on=key, how="left", validate="many_to_one")
    return merged[[*key, "seed", *axes, "metric", "value", *CARRIED]]
