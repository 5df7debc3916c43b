from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cells import end_each_way
from click.testing import Result
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.experiment import Cell, load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.view import StudyKey
from syncvis import gpus

WriteExperiment = Callable[..., Path]
PlanValues = Callable[..., list[Cell]]
Sweep = Callable[..., Result]


@pytest.fixture
def write_experiment(tmp_path: Path) -> WriteExperiment:
    """Write an experiment of one axis Nk over a tiny base; keyword arguments replace top-level keys."""
    folder = tmp_path / "experiments"
    (folder / "base").mkdir(parents=True)
    base = {"data": {"root": "data"}, "sync": {"order": "video_first"}, "train": {"steps": 2}}
    (folder / "base" / "smoke.yaml").write_text(yaml.safe_dump(base))

    def write(name: str = "nk", **changes: Any) -> Path:
        content = {
            "id": name,
            "title": "Nk",
            "question": "How many?",
            "paper_ref": "Table 8",
            "base": "base/{scale}.yaml",
            "axes": {"Nk": {"key": "sync.num_selected", "values": [2, 10]}},
            "seeds": [0, 1],
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def plan_values(write_experiment: WriteExperiment) -> PlanValues:
    """The cells of an experiment over these values of Nk."""

    def plan(values: list[int], seeds: list[int] | None = None, name: str = "nk") -> list[Cell]:
        axes = {"Nk": {"key": "sync.num_selected", "values": values}}
        path = write_experiment(name, axes=axes, seeds=seeds or [0])
        return plan_cells(load_experiment(path, "smoke"), "smoke")

    return plan


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., None]:
    """Make cells the members of their studies."""

    def add_cells(ledger: Ledger, cells: list[Cell], run_root: Path = tmp_path / "runs") -> None:
        for key in dict.fromkeys(StudyKey(cell.experiment, cell.scale) for cell in cells):
            mine = [cell for cell in cells if cell.experiment == key.experiment]
            ledger.add(key, {}, mine, run_root)

    return add_cells


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Call ``syncvis sweep`` in a folder with experiments/; errors for the user are raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("SYNCVIS_STORAGE", raising=False)

    def call(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def outputs(plan_values: PlanValues, add: Callable[..., None], tmp_path: Path) -> Ledger:
    """The ledger of ``outputs``: of five trials of nk-smoke 1 is done, 2 given up, 3 pruned, 4 runs, 5 is planned."""
    ledger = Ledger(tmp_path / "outputs" / "ledger.db")
    add(ledger, plan_values([2, 4, 6, 8, 10]), tmp_path / "outputs" / "runs")
    end_each_way(ledger)
    return ledger


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with so many GPUs of compute capability 7.5."""

    def have(number: int, visible: str | None = None) -> None:
        monkeypatch.setattr(gpus, "_number_of_devices", lambda: number)
        monkeypatch.setattr(gpus, "capability", lambda name: (7, 5))
        if visible is None:
            monkeypatch.delenv(gpus.VISIBLE, raising=False)
        else:
            monkeypatch.setenv(gpus.VISIBLE, visible)

    return have
