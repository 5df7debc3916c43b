from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.experiment import load_experiment, plan_cells
from sweeps.identity import this_worker
from sweeps.ledger import Ledger
from syncvis.errors import ConfigError


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Call ``syncvis sweep`` in a folder with experiments/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words):
        result = CliRunner().invoke(app, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def two_experiments(write_experiment, tmp_path):
    """Two experiments with one common cell per seed: one cell is done, one is given up."""
    nk = write_experiment("nk")
    write_experiment("other", axes={"Nk": {"key": "sync.num_selected", "values": [10, 16]}})
    ledger = Ledger(tmp_path / "outputs" / "ledger.db")
    ledger.add(plan_cells(load_experiment(nk), "smoke"), "outputs/runs")
    ledger.finish(ledger.claim(this_worker(), 60), {"metrics": {"AP": 41.5}, "history": [], "commit": "c0ffee"})
    ledger.fail(ledger.claim(this_worker(), 60), "loss is nan", final=True)
    return ledger


def cells_of(line):
    return [part.strip() for part in line.replace("│", "|").split("|") if part.strip()]


def test_plan_counts_cells_and_starts_nothing(invoke, two_experiments, tmp_path):
    lines = [cells_of(line) for line in invoke("plan", "--scale", "smoke").output.splitlines()]
    assert ["nk", "4", "4", "1", "3"] in lines
    assert ["other", "4", "2", "0", "2"] in lines
    assert ["all, each cell once", "6", "1", "5"] in lines


def test_plan_makes_no_files(invoke, write_experiment, tmp_path):
    write_experiment("nk")
    assert invoke("plan", "--scale", "smoke").exit_code == 0
    assert not (tmp_path / "outputs").exists()


def test_status_shows_states_and_reasons(invoke, two_experiments):
    output = invoke("status", "--scale", "smoke").output
    lines = [cells_of(line) for line in output.splitlines()]
    assert ["nk", "2", "0", "1", "1", "0"] in lines
    assert ["other", "1", "0", "0", "1", "2"] in lines
    assert "loss is nan" in output


def test_export_writes_a_row_per_cell(invoke, two_experiments, tmp_path):
    lines = invoke("export", "nk", "--scale", "smoke").output.splitlines()
    assert lines[0] == "experiment,scale,Nk,seed,state,AP,cell_hash,commit,run_dir"
    assert lines[1].startswith("nk,smoke,2,0,done,41.5,")
    assert len(lines) == 5
    invoke("export", "--scale", "smoke", "--format", "json", "--to", "all.json")
    rows = json.loads((tmp_path / "all.json").read_text())
    assert [row["state"] for row in rows].count("gave_up") == 2
    assert len(rows) == 8
    assert rows[0]["AP"] == 41.5


@pytest.mark.parametrize("command", ["plan", "run", "status", "export"])
def test_unknown_experiments_and_scales_are_config_errors(invoke, write_experiment, command):
    write_experiment("nk")
    with pytest.raises(ConfigError, match=r"no experiment 'nkk'.*did you mean 'nk'"):
        invoke(command, "nkk", "--scale", "smoke")
    with pytest.raises(ConfigError, match="scale 'paper'"):
        invoke(command, "nk", "--scale", "paper")
    assert invoke(command, "nk", "--scale", "huge").exit_code == 2


def test_planning_imports_neither_torch_nor_optuna_nor_wandb():
    code = "import sys, sweeps.cli; print([m for m in ('torch', 'optuna', 'wandb', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
