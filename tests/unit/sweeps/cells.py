"""What tests do to the cells of a ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_run
import sqlalchemy as sa

from sweeps.cli import app
from sweeps.ledger import Claim, Ledger
from sweeps.view import StudyKey
from syncvis.config import RunConfig

NK = StudyKey("nk", "smoke")


def take(ledger: Ledger, seconds: float = 60) -> Claim:
    claim = ledger.claim(f"host:boot:1:{len(ledger.view.attempts())}", seconds)
    assert claim is not None
    return claim


def claim_of(ledger: Ledger, number: int) -> Claim:
    """Of a trial that runs."""
    row = ledger.view.cell(number)
    assert row is not None
    return Claim(row["cell_hash"], row["attempt"], number, row["config"], Path(row["run_dir"]), 60)


def finish(ledger: Ledger, **changes: Any) -> Claim:
    """Let the fake run do the next cell, with another result where told."""
    claim = take(ledger)
    config = RunConfig.model_validate_json(claim.config)
    result = fake_run.result(config)
    ledger.record(claim, {line: json.dumps(row) for line, row in enumerate(fake_run.rows(config))})
    ledger.finish(claim, result | changes)
    return claim


def end_each_way(ledger: Ledger) -> None:
    """Of five planned trials let 1 be done, 2 given up, 3 pruned, and 4 run."""
    finish(ledger)
    ledger.fail(take(ledger), "loss is nan", final=True)
    ledger.prune(take(ledger), "AP is low")
    ledger.record(take(ledger), {0: '{"step": 1, "loss": 2.0}', 1: '{"step": 1, "eval/AP": 12.5}'})


def alter(ledger: Ledger, sql: str, **values: Any) -> None:
    """Change what only the ledger's clock and workers write otherwise."""
    ledger._database.run(lambda connection: connection.execute(sa.text(sql), values))


def sweep_often(folder: Path, words: Sequence[str], times: int) -> None:
    """Call ``syncvis sweep`` again and again; the target of a process."""
    os.chdir(folder)
    for _ in range(times):
        app(list(words), standalone_mode=False)
