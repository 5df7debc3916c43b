from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.experiment import Cell, load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.view import StudyKey

WriteExperiment = Callable[..., Path]
PlanValues = Callable[..., list[Cell]]


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
