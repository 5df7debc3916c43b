from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image

from sweeps.identity import this_worker
from sweeps.tracking import Mirror, is_mirrored


class FakeRun:
    def __init__(self, arguments: dict[str, Any]):
        self.arguments, self.rows, self.summary, self.config, self.exit_code = arguments, [], {}, FakeConfig(), None

    def log(self, row, step):
        self.rows.append((step, row))

    def finish(self, exit_code=0):
        self.exit_code = exit_code


class FakeConfig(dict):
    def update(self, values, allow_val_change):
        super().update(values)


@pytest.fixture
def fake_wandb(monkeypatch):
    runs: list[FakeRun] = []

    def init(**arguments):
        runs.append(FakeRun(arguments))
        return runs[-1]

    def image(path, caption):
        return caption

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Image=image, Settings=dict))
    for name in ("CACHE_DIR", "DATA_DIR", "ARTIFACT_DIR", "CONFIG_DIR", "ERROR_REPORTING", "SILENT"):
        monkeypatch.setenv(f"WANDB_{name}", "")  # so that what the mirror sets is undone
    return runs


def write_rows(run_dir, *rows, end=""):
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)


def started(ledger, cell):
    claim = ledger.claim(this_worker(), 60, [cell.hash])
    claim.run_dir.mkdir(parents=True)
    (claim.run_dir / "config.yaml").write_text(yaml.safe_dump(cell.config.model_dump(mode="json")))
    return claim


RESULT = {
    "metrics": {"AP": 40.0, "AP50": 60.0},
    "steps": 2,
    "seconds": {"total": 1.0},
    "commit": "c0ffee",
    "dirty": False,
    "environment": {"python": "3"},
    "data_fingerprint": "f",
}


@pytest.fixture
def running(ledger, plan_values, tmp_path):
    cells = plan_values([2], seeds=[3])
    ledger.add(cells, tmp_path / "runs")
    return started(ledger, cells[0])


def mirror_of(ledger, claim, tmp_path):
    return Mirror(ledger, tmp_path / "wandb", "offline", [claim.cell_hash])


def test_a_running_cell_is_followed_and_completed(ledger, running, fake_wandb, tmp_path):
    mirror = mirror_of(ledger, running, tmp_path)
    write_rows(running.run_dir, {"step": 1, "loss": 2.0}, end='{"step": 2, "lo')
    mirror.step()
    (run,) = fake_wandb
    assert run.rows == [(1, {"loss": 2.0})]
    assert not is_mirrored(running.run_dir)

    write_rows(running.run_dir, {"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "eval/AP": 40.0})
    (running.run_dir / "overlays").mkdir()
    Image.new("RGB", (4, 4)).save(running.run_dir / "overlays" / "video1.png")
    ledger.finish(running, RESULT)
    mirror.step()
    assert run.rows[1:] == [(2, {"loss": 1.0}), (2, {"eval/AP": 40.0}), (2, {"overlays": ["video1"]})]
    assert run.summary == {**RESULT["metrics"], "seconds": RESULT["seconds"]}
    assert run.config["commit"] == "c0ffee"
    assert run.exit_code == 0
    assert run.arguments["group"] == "nk-smoke"
    assert run.arguments["name"] == "Nk=2, seed=3"
    assert run.arguments["config"]["sync"]["num_selected"] == 2
    assert run.arguments["config"]["cell_hash"] == running.cell_hash

    mirror.step()
    mirror_of(ledger, running, tmp_path).step()
    assert len(fake_wandb) == 1


def test_rows_that_a_resumed_training_writes_again_are_not_doubled(ledger, running, fake_wandb, tmp_path):
    mirror = mirror_of(ledger, running, tmp_path)
    rows = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    write_rows(running.run_dir, *rows)
    mirror.step()
    write_rows(running.run_dir, rows[0])
    mirror.step()
    write_rows(running.run_dir, *rows, {"step": 4, "loss": 1.0})
    mirror.step()
    steps = [step for step, _ in fake_wandb[0].rows]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    assert steps == sorted(steps)


def test_a_half_mirrored_run_is_dropped_and_built_anew(ledger, running, fake_wandb, tmp_path):
    write_rows(running.run_dir, {"step": 1, "loss": 2.0})
    mirror = mirror_of(ledger, running, tmp_path)
    mirror.step()
    mirror.close()
    half = tmp_path / "wandb" / f"offline-run-1-{fake_wandb[0].arguments['id']}"
    half.mkdir()
    ledger.finish(running, RESULT)
    mirror_of(ledger, running, tmp_path).step()
    assert fake_wandb[0].exit_code == 1
    assert not half.exists()
    assert fake_wandb[1].arguments["id"] == fake_wandb[0].arguments["id"]
    assert fake_wandb[1].rows[0] == (1, {"loss": 2.0})
    assert is_mirrored(running.run_dir)
