"""Rehearsals of small models, by the workers, trials and processes that train them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from helpers import METHOD_SETTINGS, TINY
from rich.console import Console

from sweeps.definition import Study
from sweeps.ledger import Ledger
from sweeps.rehearsal import rehearse
from sweeps.runner import SweepOptions
from syncvis.config import METHODS, set_dotted

WRONG = {"train.init": "nowhere.safetensors"}


def _study(root: Path, points: dict[str, dict[str, Any]]) -> Study:
    base = set_dotted(set_dotted(TINY, "data.root", str(root)), "train.precision", "fp16")
    labelled = [{"label": label, "changes": list(changes.items())} for label, changes in points.items()]
    named = {"name": "own-small", "experiment": "own", "scale": "small", "source": "own.yaml"}
    axes = [{"name": "method", "points": labelled}]
    return Study.model_validate({**named, "axes": axes, "seeds": [7, 8], "base": base})


def _rehearse(study: Study, out: Path, processes: int = 1) -> tuple[int, list[str]]:
    output, options = io.StringIO(), SweepOptions(out=out, workers=2, poll=0.1, processes=processes)
    return rehearse([study], options, Console(file=output, width=1000)), output.getvalue().splitlines()


@pytest.mark.slow
def test_every_method_is_rehearsed_and_what_fails_is_named_with_its_log(tiny_data: Path, tmp_path: Path) -> None:
    points: dict[str, dict[str, Any]] = {"wrong": WRONG}
    for name in METHODS:
        method = {"name": name} | METHOD_SETTINGS.get(name, {})
        points |= {f"{name} alone": {"method": method, "sync": None, "subclips": None}, name: {"method": method}}
    code, lines = _rehearse(_study(tiny_data, points), tmp_path)
    failed, end = lines[-2:]
    assert (code, lines[-3]) == (5, f"own-small: {len(points) - 1} of {len(points)} points ok, 1 failed")
    assert failed.startswith("  own: method=wrong, seed 7: nowhere.safetensors: ")
    assert "nowhere.safetensors" in Path(failed.rpartition(" (")[2].rstrip(")")).read_text()
    assert end.startswith("took ")
    assert end.endswith(f"; everything is in {tmp_path / 'rehearsal'}")
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal"]
    runs = tmp_path / "rehearsal" / "runs"
    assert not [path for kind in ("*.pt", "*.safetensors") for path in runs.rglob(kind)]
    view = Ledger(tmp_path / "rehearsal" / "ledger.db").view
    for cell_hash, result in view.results().items():
        assert result["config"]["train"]["precision"] == "bf16"
        assert [row["step"] for row in view.metrics(cell_hash).values()] == [1, 2, 2]

    code, lines = _rehearse(_study(tiny_data, {"ctvis": {"method": {"name": "ctvis"}}}), tmp_path, processes=2)
    assert (code, lines[-2]) == (0, "own-small: 1 of 1 points ok")
    ledger = Ledger(tmp_path / "rehearsal" / "ledger.db")  # a new one: the last rehearsal is gone
    (again,) = ledger.view.results().values()
    assert again["config"]["train"]["batch_size"] == 2
