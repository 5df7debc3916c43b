"""A ledger whose trials are run by hand: what the W&B mirror is tested on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from wandb_runs import WrittenRun, merged, read_runs

from sweeps.experiment import load_experiment, plan_cells
from sweeps.ledger import Claim, Ledger
from sweeps.tracking.notes import number_waiting
from sweeps.tracking.process import MirrorProcess
from sweeps.tracking.processes import services_of
from sweeps.view import StudyKey

NK = StudyKey("nk", "smoke")
RESULT: dict[str, Any] = {
    "metrics": {"AP": 40.0, "AP50": 60.0},
    "steps": 4,
    "seconds": {"total": 1.0},
    "per_video": {"10": 50.0, "2": 30.0, "3": None},
    "per_video_tracking": {"2": {"switches": 1.0, "purity": 0.5, "coverage": 0.75, "lost": 0.25}},
    "tracking": {"switches": 1.0, "purity": 0.5, "coverage": 0.75, "lost": 0.25},
    "commit": "c0ffee",
    "dirty": False,
    "environment": {"python": "3"},
    "data_fingerprint": "f",
}


class Trials:
    """Trials 1 .. n of a study, in a folder with outputs/."""

    def __init__(self, folder: Path, number: int, root: str = "data"):
        self.out, self.claims = folder / "outputs", 0
        self.wandb = self.out / "wandb"
        self.ledger = Ledger(self.out / "ledger.db")
        self.view = self.ledger.view
        (folder / "experiments" / "base").mkdir(parents=True)
        base = {"data": {"root": root}, "train": {"steps": 2}}
        (folder / "experiments" / "base" / "smoke.yaml").write_text(yaml.safe_dump(base))
        words = {"id": "nk", "title": "Nk", "question": "?", "paper_ref": "-", "base": "base/{scale}.yaml"}
        axes = {"Nk": {"key": "sync.num_selected", "values": list(range(1, number + 1))}}
        path = folder / "experiments" / "nk.yaml"
        path.write_text(yaml.safe_dump({**words, "axes": axes, "seeds": [0]}))
        self.ledger.add(NK, {}, plan_cells(load_experiment(path), "smoke"), self.out / "runs")

    def claim(self, rows: int = 4) -> Claim:
        self.claims += 1
        claim = self.ledger.claim(f"elsewhere:boot:1:{self.claims}", 600)
        assert claim is not None
        self.record(claim, rows)
        return claim

    def record(self, claim: Claim, rows: int, first: int = 0, scale: float = 1.0) -> None:
        lines = {n: json.dumps(row_of(n, scale)) for n in range(first, first + rows)}
        assert self.ledger.record(claim, lines)

    def finish(self, claim: Claim, **changes: Any) -> None:
        self.ledger.finish(claim, {**RESULT, **changes})

    def done(self, number: int, rows: int = 4) -> None:
        for _ in range(number):
            self.finish(self.claim(rows))

    def mirror(self, **options: Any) -> MirrorProcess:
        return MirrorProcess(str(self.out / "ledger.db"), self.wandb, "offline", None, poll=0.1, **options)

    def mirror_all(self, seconds: float = 40.0) -> None:
        self.mirror().close(seconds)
        assert self.waiting() == 0, (self.wandb / "mirror.log").read_text()

    def waiting(self) -> int:
        return number_waiting(self.view, self.wandb, None)

    def assert_mirrored(self, number: int) -> dict[int, WrittenRun]:
        """W&B has every row of so many trials once."""
        runs = read_runs(self.wandb)
        assert sorted(runs) == list(range(1, number + 1))
        for trial, run in runs.items():
            row = self.view.cell(trial)
            assert row is not None
            stored = list(self.view.metrics(row["cell_hash"]).values())
            assert run.steps == sorted(set(run.steps))
            assert run.rows() == merged(stored)
        return runs


def row_of(line: int, scale: float = 1.0) -> Mapping[str, float]:
    """Two losses per evaluation, which shares its step with the second."""
    step = line - line // 3
    return {"step": step, "eval/AP": scale * line} if line % 3 == 2 else {"step": step + 1, "loss": scale / (line + 1)}


def write_pictures(folder: Path) -> None:
    """A label map beside its picture, a picture alone, and a damaged label map."""
    folder.mkdir(parents=True)
    labels = np.zeros((8, 12), np.uint8)
    labels[2:5] = 1
    names = {"truth_names": np.array(["dog #1"]), "prediction_names": np.array(["dog #1 0.87"])}
    frame = np.zeros((8, 12, 3), np.uint8)
    np.savez_compressed(folder / "1.npz", frame=frame, truth=labels, prediction=labels, **names)
    (folder / "3.npz").write_bytes(b"PK damaged")
    for video in (1, 2, 3):
        Image.new("RGB", (12, 8)).save(folder / f"{video}.png")


def mirror_pids(folder: Path) -> list[int]:
    """The processes that mirror to a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sweeps.tracking" in words and str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


def core_pids(folder: Path) -> list[int]:
    return [core for pid in mirror_pids(folder) for core in services_of(pid)]


def wait_for(condition: Any, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def start_mirror_from_another_process(trials: Trials) -> subprocess.Popen[bytes]:
    code = (
        "import sys, time; from pathlib import Path; from sweeps.tracking.process import MirrorProcess;"
        "MirrorProcess(sys.argv[1], Path(sys.argv[2]), 'offline', None); time.sleep(600)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(trials.out / "ledger.db"), str(trials.wandb)])
