"""Training a finished trial again from its record alone, and telling whether the same came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.data_guard import data_fingerprint
from sweeps.database import Row
from sweeps.ranks import together
from sweeps.runner import stop_requests
from sweeps.sources import changes_of_source
from sweeps.trial import load_run
from sweeps.view import View
from syncvis import gpus
from syncvis.config import RunConfig, validation_error
from syncvis.errors import ConfigError, Interrupted
from syncvis.execution import Execution
from syncvis.files import fingerprint, finite, not_written
from syncvis.source import snapshot

COMPARED = ("metrics", "per_category", "per_video", "per_video_tracking", "history", "parameters", "steps")
"""What of a result must come out again; durations, memory and origin need not."""
MEASURED = "system/"
"""Of the names of values in a row that differ every time."""
UNNAMED = {"loader_workers": "0", "checkpoint_activations": "false"}
"""What the environment of a record was that does not name these: there was no choice then."""


@dataclass(frozen=True)
class Record:
    """What the ledger holds of a finished trial.

    Attributes:
        rows: its metric rows, in order.
        execution: how each of its processes was carried out, as far as that was noted.
        processes: how many trained it together.
    """

    number: int
    config: RunConfig
    result: Row
    rows: Sequence[Row]
    execution: Execution
    processes: int


def load_record(view: View, row: Row) -> Record:
    """The record of a trial (a row of :meth:`View.cell`).

    Raises:
        ConfigError: It is not done, or its config is not one of this version.
    """
    result = view.results([row["cell_hash"]]).get(row["cell_hash"])
    if result is None:
        problem = f"trial {row['number']} is {row['state'].replace('gave_up', 'given up')}, so nothing can be compared"
        raise ConfigError(problem, file=view.place, fix="choose a trial that is done")
    try:
        config = RunConfig.model_validate_json(row["config"])
    except ValidationError as error:
        raise validation_error(error, RunConfig, f"config of trial {row['number']}") from None
    last = next((attempt["execution"] for attempt in view.attempts(number=row["number"])[::-1]), None) or {}
    rows, execution = list(view.metrics(row["cell_hash"]).values()), Execution.from_json(last)
    return Record(row["number"], config, result, rows, execution, last.get("processes", 1))


def execution_here(record: Record, device: str | None) -> tuple[Execution, int]:
    """How this machine can train the trial again, and in how many processes: as it was, where there are the GPUs.

    Args:
        device: "cpu" or "cuda"; None for that of the record, or the CPU where there is no GPU.

    Raises:
        ConfigError: A GPU is asked for, and there is none.
    """
    was, processes = record.execution, record.processes
    there = gpus.count()
    here = replace(was, device=device or (was.device if there else "cpu"))
    if here.on_gpu:
        gpus.require(1)
        processes = processes if there >= processes else 1
    if here.on_gpu != was.on_gpu:
        here = replace(here, loader_workers=None)
    return here.resolved(processes), processes


def changes_of_place(record: Record, execution: Execution, processes: int) -> Iterator[str]:
    """What is not now as it was when the trial ran: source, versions, hardware, how it is carried out, data, initial
    weights, texts.

    Raises:
        StorageError: A file of weights or texts cannot be read.
    """
    import torch

    from syncvis.training.provenance import provenance
    from syncvis.training.runtime import Runtime

    now = provenance(Runtime(**execution.to_json()), torch.device(execution.device))
    result = record.result
    yield from changes_of_source(result, snapshot(record.config.plugins))
    here = now["environment"] | {"processes": str(processes)}
    before = UNNAMED | (result.get("environment") or {})
    for name in dict.fromkeys([*before, *here]):
        yield from _change(name, before.get(name), here.get(name))
    data = data_fingerprint(record.config.model_dump(mode="json")["data"])
    if data is not None:
        yield from _change("data fingerprint", result.get("data_fingerprint"), data)
    init = record.config.train.init
    if init is not None:
        start = fingerprint(Path(init))
        yield from _change(f"fingerprint of train.init ({init})", result.get("init_fingerprint"), start)
    if record.config.method.class_text is not None:
        text = record.config.method.class_text[0]
        rows = fingerprint(Path(text))
        yield from _change(f"fingerprint of method.text ({text})", result.get("text_fingerprint"), rows)


def new_folder(parent: Path, number: int) -> Path:
    """``parent/<number>-<n>``, which nobody had before.

    Raises:
        StorageError: It cannot be made.
    """
    for n in count(1):
        folder = parent / f"{number}-{n}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise not_written(folder, error) from None
    raise AssertionError("unreachable")


def train_again(record: Record, folder: Path, run: str, execution: Execution, processes: int) -> tuple[Row, list[Row]]:
    """Result and metric rows of a new run of the same config.

    Raises:
        Interrupted: On Ctrl-C or SIGTERM.
    """
    rows: dict[int, Row] = {}
    try:
        if processes == 1:  # it hears the signals itself
            result = load_run(run, execution)(record.config, folder, lambda: False, rows.__setitem__)
        else:
            with stop_requests() as requests:
                run_cell = together(run, execution, processes)
                result = run_cell(record.config, folder, lambda: bool(requests), rows.__setitem__)
    except Interrupted:
        raise Interrupted("stopped", file=folder, fix="the same command begins again, in a new folder") from None
    return result, [rows[line] for line in sorted(rows)]


def differences(record: Record, result: Row, rows: Sequence[Row]) -> list[str]:
    """Where result and rows are not, bit for bit, those of the record."""
    before = {name: record.result[name] for name in COMPARED if name in record.result}
    found = [line for name, value in before.items() for line in _differ(name, value, result.get(name))]
    if len(record.rows) != len(rows):
        found.append(f"rows: {len(record.rows)}, now {len(rows)}")
    for number, (stored, now) in enumerate(zip(record.rows, rows, strict=False)):
        found += _differ(f"row {number} (step {stored.get('step')})", _repeatable(stored), _repeatable(now))
    return found


def _repeatable(row: Row) -> Row:
    return {name: value for name, value in row.items() if not name.startswith(MEASURED)}


def _differ(place: str, before: Any, now: Any) -> Iterator[str]:
    """A line for each leaf of two JSON trees that differs; text keeps every bit of a number."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            yield from _differ(f"{place} {name}", before.get(name), now.get(name))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differ(f"{place} {index}", one, other)
    elif json.dumps(finite(before)) != json.dumps(finite(now)):
        yield f"{place}: {before}, now {now}"


def _change(name: str, before: Any, now: Any) -> Iterator[str]:
    if before != now:
        yield f"{name}: {before} in the record, {now} now"
