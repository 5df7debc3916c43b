"""What wandb wrote, for tests to read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.tracking.wandb_file import records


@dataclass
class WrittenRun:
    """The content of one ``run-*.wandb``; ``history`` in the order of the file, with ``_step`` in every row."""

    folder: Path
    name: str = ""
    group: str = ""
    job_type: str = ""
    host: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.history]

    def rows(self) -> dict[int, dict[str, Any]]:
        """Step -> the numbers of its row."""
        own = {"per_video", "overlays"}
        return {
            row["_step"]: {k: v for k, v in row.items() if k[0] != "_" and k.split(".")[0] not in own}
            for row in self.history
        }


def read_run(folder: Path) -> WrittenRun:
    run = WrittenRun(folder)
    for record in records(next(folder.glob("*.wandb"))):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told = record.run
            run.name, run.group, run.job_type, run.host = told.display_name, told.run_group, told.job_type, told.host
            run.tags = list(told.tags)
            run.config |= _items(told.config.update)
        elif kind == "config":
            run.config |= _items(record.config.update)
        elif kind == "summary":
            run.summary |= _items(record.summary.update)
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def read_runs(folder: Path) -> dict[int, WrittenRun]:
    """Trial number -> run, of all complete runs of a W&B folder; fails if two runs mirror one trial."""
    runs = [read_run(path) for path in folder.glob("offline-run-*")]
    by_trial = {run.config["trial"]: run for run in runs}
    assert len(by_trial) == len(runs)
    return by_trial


def merged(rows: Any) -> dict[int, dict[str, Any]]:
    """Rows of a ledger by step: W&B has one row per step."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row["step"], {}).update({k: v for k, v in row.items() if k != "step"})
    return found


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
