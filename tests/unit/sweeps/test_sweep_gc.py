"""gc: what goes, and above all what stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.ledger import Ledger

FILES = ("checkpoint.pt", "checkpoint.previous.pt", "model.safetensors", "result.json", "metrics.jsonl")


@pytest.fixture
def runs(outputs, tmp_path):
    """Every trial of ``outputs`` with files of 100 bytes."""
    for row in outputs.view.cells():
        Path(row["run_dir"]).mkdir(parents=True)
        for name in FILES:
            (Path(row["run_dir"]) / name).write_bytes(bytes(100))
    return tmp_path / "outputs" / "runs"


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def folder_of(ledger, number):
    return Path(ledger.view.cell(number)["run_dir"])


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def old(path, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (0, 0))
    return path


def test_gc_alone_deletes_nothing(sweep, outputs, runs):
    before = files(runs)
    output = sweep("gc").output
    assert "resume points of trials that are done or pruned: 4, 400 bytes" in output
    assert "400 bytes would be deleted; --yes does it" in output
    assert files(runs) == before


def test_gc_deletes_resume_points_of_ended_trials_alone(sweep, outputs, runs):
    before = files(runs)
    assert "400 bytes deleted" in sweep("gc", "--yes").output
    gone = {f"{folder_of(outputs, n).name}/{name}" for n in (1, 3) for name in FILES[:2]}
    assert before - files(runs) == gone
    assert "0 bytes deleted" in sweep("gc", "--yes").output


def test_gc_keeps_the_resume_point_of_a_done_trial_whose_folder_has_no_result(sweep, outputs, runs):
    (folder_of(outputs, 1) / "result.json").unlink()
    sweep("gc", "--yes")
    assert (folder_of(outputs, 1) / "checkpoint.pt").exists()


def test_gc_deletes_what_killed_processes_left(sweep, outputs, tmp_path):
    out, pid = tmp_path / "outputs", dead_process()
    dead = [old(out / f".trials.csv.{pid}.tmp"), old(folder_of(outputs, 4) / f".checkpoint.pt.{pid}.tmp")]
    kept = [
        old(out / f".a.{os.getpid()}.tmp"),
        old(out / "b.tmp"),
        old(out / f"c.{pid}.tmp"),
        old(out / ".d.0x1.tmp"),
    ]
    young = out / f".young.{pid}.tmp"
    young.touch()
    assert "temporary files of dead processes: 2, 20 bytes" in sweep("gc", "--yes").output
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in [*kept, young])


def test_gc_deletes_older_copies_of_a_wandb_run(sweep, outputs, tmp_path):
    wandb = tmp_path / "outputs" / "wandb"
    names = ["20260101_000000-aa", "20260102_000000-aa", "20260101_000000-bb"]
    paths = [old(wandb / f"offline-run-{name}" / "files" / "x").parents[1] for name in names]
    old(wandb / "notes" / "x")
    assert "W&B runs that were begun anew: 1, 10 bytes" in sweep("gc", "--yes").output
    assert [path.exists() for path in paths] == [False, True, True]
    assert (wandb / "notes" / "x").exists()


def test_gc_deletes_folders_of_no_trial_only_when_told(sweep, outputs, runs, tmp_path):
    orphan = old(runs / ("0" * 16) / "model.safetensors").parent
    others = [old(runs / "my-own" / "x").parent, old(tmp_path / "elsewhere" / "x").parent]
    (runs / ("1" * 16)).symlink_to(others[1])
    sweep("gc", "--yes")
    assert orphan.exists()
    assert "run folders of no trial: 1, 10 bytes" in sweep("gc", "--yes", "--orphans").output
    assert not orphan.exists()
    assert all((path / "x").exists() for path in others)
    assert all(folder_of(outputs, n).exists() for n in range(1, 6))


def test_folders_of_another_ledger_in_the_same_place_are_no_orphans(sweep, outputs, runs, tmp_path):
    Ledger(tmp_path / "other.db")
    output = sweep("gc", "--yes", "--orphans", "--storage", f"sqlite:///{tmp_path}/other.db").output
    assert "0 bytes deleted" in output
    assert len(list(runs.iterdir())) == 5


def test_gc_never_follows_a_link_out_of_the_tree(sweep, outputs, tmp_path):
    outside = old(tmp_path / "elsewhere" / f".x.{dead_process()}.tmp")
    (tmp_path / "outputs" / "link").symlink_to(outside.parent)
    sweep("gc", "--yes")
    assert outside.exists()
