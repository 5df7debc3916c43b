"""Real trainings under a sweep: killed ones go on from their checkpoints and end as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from helpers import TINY, logged_rows
from sweeping import PATH, Place

from syncvis.config import RunConfig, set_dotted
from syncvis.training.run import RunResult, Runtime, run

KILLS = 10
STEPS = 24


@pytest.fixture
def place(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", PATH)
    tree = set_dotted(TINY, "data.root", str(tiny_data))
    for key, value in (("train.steps", STEPS), ("train.checkpoint_every", 2), ("train.eval_every", 12)):
        tree = set_dotted(tree, key, value)
    made = Place(tmp_path, 4, 2, base={name: part for name, part in tree.items() if name not in ("seed", "scale")})
    made.run = "syncvis.training.run:run"
    yield made
    made.close()


def test_eight_trainings_under_ten_kills_end_as_if_undisturbed(place: Place, tmp_path: Path) -> None:
    place.add()
    dice, killed = random.Random(0), []
    workers = [place.worker() for _ in range(2)]
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.05)
        running = place.view.cells(states=["running"])
        steps = {row["number"]: place.view.last_metrics(row["cell_hash"], 1) for row in running}
        begun = [row for row in running if steps[row["number"]] and dice.random() < 0.1]
        pids = {worker.pid for worker in workers}
        if begun and len(killed) < KILLS:
            trial = int(begun[0]["worker"].split(":")[-2])
            if trial not in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(trial, signal.SIGKILL)
                    killed.append(begun[0]["number"])
    assert len(killed) == KILLS
    counts = place.view.counts()
    assert counts["done"] == sum(counts.values()) == 8
    for number in set(killed):
        _assert_undisturbed(place, number, tmp_path / f"again-{number}")


def _assert_undisturbed(place: Place, number: int, out: Path) -> None:
    row = place.view.cell(number)
    assert row is not None
    again = run(RunConfig.model_validate_json(row["config"]), out, Runtime())
    stored = RunResult(**place.view.results()[row["cell_hash"]])
    assert stored.metrics == again.metrics
    assert stored.history == again.history
    in_ledger = place.view.metrics(row["cell_hash"]).values()
    plain = [{name: value for name, value in row.items() if not name.startswith("system/")} for row in in_ledger]
    assert plain == logged_rows(out)
    run_dir = Path(row["run_dir"])
    assert (run_dir / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
