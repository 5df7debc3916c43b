"""A trial that a real worker trained comes out again from the ledger's record, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import Result
from helpers import tiny_config
from repositories import make_repository
from sweeping import FAKES, Place, ends
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.data_guard import changed_data
from sweeps.experiment import Cell
from sweeps.ledger import Ledger
from sweeps.sources import sources_of
from sweeps.view import StudyKey
from syncvis.source import PACKAGES, snapshot, take

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a ledger whose only trial was trained by a worker."""
    made = tmp_path_factory.mktemp("rerun")
    shutil.copytree(tiny_data, made / "data")
    config = tiny_config({"train.eval_every": 3, "eval.topk": 4}, "data")
    cell = Cell("tiny", "smoke", {"steps": 6}, config.seed, config, config.cell_hash, 0)
    Ledger(made / "outputs" / "ledger.db").add(StudyKey("tiny", "smoke"), {}, [cell], "outputs/runs")
    words = [sys.executable, "-m", "sweeps.worker", "outputs/ledger.db", "--poll", "0.05"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=made, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def sweep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_trial_comes_out_again_bit_for_bit(sweep: Callable[..., Result], folder: Path) -> None:
    rows = list(Ledger(folder / "outputs" / "ledger.db").view.metrics(_hash(folder)).values())
    result = sweep("rerun", 1)
    assert result.exit_code == 0, result.output
    assert f"identical: all metrics, AP of 2 videos, {len(rows)} rows" in result.output
    assert "warning" not in result.output
    assert any(name.startswith("system/") for row in rows for name in row)
    weights = [path.read_bytes() for path in (folder / "outputs").glob("r*/*/model.safetensors")]
    assert len(weights) == 2
    assert weights[0] == weights[1]


def test_a_loss_that_differs_in_the_last_bit_is_found(sweep: Callable[..., Result], folder: Path) -> None:
    ledger = Ledger(folder / "outputs" / "ledger.db")
    row = ledger.view.metrics(_hash(folder))[0]
    changed = row | {"loss": row["loss"] * (1 + 2**-52)}
    _store(ledger, changed)
    try:
        result = sweep("rerun", 1)
    finally:
        _store(ledger, row)
    assert result.exit_code == 1
    assert f"row 0 (step 1) loss: {changed['loss']}, now {row['loss']}" in result.output
    assert "1 differences:" in result.output


def test_changed_data_is_warned_of_and_guarded(sweep: Callable[..., Result], folder: Path) -> None:
    view, valid = Ledger(folder / "outputs" / "ledger.db").view, folder / "data" / "valid.json"
    assert changed_data(view, [StudyKey("tiny", "smoke")]) == []
    before = valid.read_bytes()
    valid.write_bytes(before + b"\n")  # the same videos in another file
    try:
        lines = changed_data(view, [StudyKey("tiny", "smoke")])
        output = sweep("rerun", 1).output
    finally:
        valid.write_bytes(before)
    assert len(lines) == 1
    assert lines[0].startswith("data/valid.json: 1 done cells saw content")
    assert "warning: data fingerprint: " in output
    assert "identical" in output


def test_show_has_versions_hardware_and_source(sweep: Callable[..., Result]) -> None:
    output = sweep("show", 1).output
    for name in ("torch: ", "cpu: ", "cores: ", "threads: 1", "data_fingerprint: ", "peak_memory_mb: ", "commit: "):
        assert name in output


def test_the_source_that_trained_is_kept(folder: Path) -> None:
    view = Ledger(folder / "outputs" / "ledger.db").view
    assert sources_of(view, _hash(folder)) == {1: snapshot()}
    result = view.results()[_hash(folder)]
    assert (result["source"], result["diff"]) == (snapshot().code, snapshot().diff)


def test_trials_have_the_source_that_their_worker_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done to the files while it works: what it forks has the modules that it has."""
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    clone = tmp_path / "clone"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    make_repository(clone, {"README.md": "a copy\n"})
    place = Place(tmp_path / "place", values=2, seeds=1)
    place.add()
    (tmp_path / "seconds").write_text("0.5")
    worker = place.worker(PYTHONPATH=os.pathsep.join([str(FAKES), str(clone)]))
    place.pid_of_trial(1)  # waits until it has begun
    before = take(clone)
    (clone / "syncvis" / "new.py").write_text("too_late = True\n")
    ends(worker)
    assert [sources_of(place.view, cell.hash) for cell in place.cells] == [{1: before}, {1: before}]
    assert take(clone).code != before.code


def _hash(folder: Path) -> str:
    (row,) = Ledger(folder / "outputs" / "ledger.db").view.cells()
    return str(row["cell_hash"])


def _store(ledger: Ledger, row: dict[str, float]) -> None:
    update = sa.text("UPDATE metrics SET row = :row WHERE line = 0")
    ledger._database.run(lambda connection: connection.execute(update, {"row": json.dumps(row)}))
