"""A synthetic ledger, written by plain SQL, with numbers that are easy to check by hand."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCHEMA = """
CREATE TABLE cells (cell_hash TEXT PRIMARY KEY, variant_hash TEXT, seed INTEGER, config TEXT, state TEXT,
  attempt INTEGER, worker TEXT, lease_until REAL, error TEXT, run_dir TEXT, created REAL, started REAL, finished REAL);
CREATE TABLE members (experiment TEXT, scale TEXT, cell_hash TEXT, position INTEGER, axes TEXT,
  PRIMARY KEY (experiment, scale, cell_hash));
CREATE TABLE results (cell_hash TEXT PRIMARY KEY, attempt INTEGER, result TEXT, finished REAL);
"""
BASE = """
data: {root: outputs/data/tiny}
train: {steps: 10}
"""
NK = """
id: nk
title: Number of selected embeddings Nk
question: How many embeddings should each level read?
paper_ref: Table 8
base: base/{scale}.yaml
axes: {Nk: {key: sync.num_selected, values: [2, 10]}}
seeds: {smoke: [0, 1, 2]}
metrics: [AP, AP50]
claims: [C06]
reference: paper_T8
table: {rows: [Nk], columns: metrics}
"""
FRAMES = """
id: frames
title: AP versus number of input frames T
question: Does AP hold with longer clips?
paper_ref: Figure 3
base: base/{scale}.yaml
axes:
  method:
    variants:
      SyncVIS: {}
      Mask2Former-VIS: {method.structure: video_only, sync: null, subclips: null}
  T: {key: data.frames, values: {smoke: [2, 4, 6]}}
seeds: {smoke: [0, 1]}
metrics: [AP]
claims: [C01, C02]
reference: paper_Fig3
table: {rows: [method], columns: T}
curve: {x: T, series: method}
"""
COMPONENTS = """
id: components
title: Components
question: Which part helps?
base: base/{scale}.yaml
axes: {parts: {variants: {baseline: {sync: null, subclips: null}, +SVFM: {subclips: null}, other: {}}}}
seeds: {smoke: [0]}
metrics: [AP, AP50]
reference: readme_components
table: {rows: [parts], columns: metrics}
"""


class Book:
    """Fills an output folder: a ledger, experiment files and run folders."""

    nk, frames, components = NK, FRAMES, COMPONENTS

    def __init__(self, root: Path):
        self.out = root / "outputs"
        self.experiments = root / "experiments"
        self.out.mkdir()
        (self.experiments / "base").mkdir(parents=True)
        (self.experiments / "base" / "smoke.yaml").write_text(BASE)
        self.ledger = self.out / "ledger.db"
        self.database = sqlite3.connect(self.ledger)
        self.database.executescript(SCHEMA)
        self.count = self.position = 0

    def describe(self, text: str) -> None:
        name = next(line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: "))
        (self.experiments / f"{name}.yaml").write_text(text)

    def add(
        self, experiment: str, axes: dict[str, Any], seed: int, metrics: dict[str, float] | None, **more: Any
    ) -> str:
        """Add one cell; without metrics it is not finished (``state=`` says how far it came)."""
        self.count += 1
        name = more.get("cell_hash", f"{self.count:016x}")
        state = more.get("state", "done" if metrics is not None else "planned")
        run_dir = more.get("run_dir", str(self.out / "runs" / name))
        config = json.dumps({"data": {"root": "outputs/data/tiny"}, "method": {"name": "mask2former_vis"}})
        cell = (
            name,
            f"v{name}",
            seed,
            config,
            state,
            1,
            None,
            None,
            more.get("error"),
            run_dir,
            0.0,
            0.0,
            0.0,
        )
        self.database.execute(f"INSERT INTO cells VALUES ({','.join('?' * 13)})", cell)
        self.join(experiment, axes, name, more.get("scale", "smoke"))
        if metrics is not None:
            text = json.dumps(result(name, seed, metrics))
            self.database.execute("INSERT INTO results VALUES (?, 1, ?, ?)", (name, text, 86400.0 + self.count))
        self.database.commit()
        return name

    def join(self, experiment: str, axes: dict[str, Any], name: str, scale: str = "smoke") -> None:
        self.position += 1
        row = (experiment, scale, name, self.position, json.dumps(axes))
        self.database.execute("INSERT INTO members VALUES (?, ?, ?, ?, ?)", row)
        self.database.commit()


def result(name: str, seed: int, metrics: dict[str, float]) -> dict[str, Any]:
    return {
        "cell_hash": name,
        "seed": seed,
        "metrics": metrics,
        "per_video": {"1": 10.0, "2": 20.0},
        "history": [{"step": 5, "AP": 1.0}, {"step": 10, "AP": metrics["AP"]}],
        "steps": 10,
        "seconds": {"train": 1.0, "eval": 0.5, "total": 1.5},
        "peak_memory_mb": 100.0,
        "environment": {"python": "3.12", "device": "cpu"},
        "commit": "0123456789abcdef",
        "dirty": False,
        "data_fingerprint": "feedbeefcafe",
    }


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


@pytest.fixture
def nk_book(book: Book) -> Book:
    """Nk = 2: 10, 20 and a NaN seed; Nk = 10 (the default): 30, 40, and a seed that gave up."""
    book.describe(NK)
    for seed, (two, ten) in enumerate([(10.0, 30.0), (20.0, 40.0), (math.nan, None)]):
        book.add("nk", {"Nk": 2}, seed, {"AP": two, "AP50": two + 1})
        failed = {"state": "gave_up", "error": "loss became NaN"}
        book.add(
            "nk",
            {"Nk": 10},
            seed,
            None if ten is None else {"AP": ten, "AP50": ten + 1},
            **(failed if ten is None else {}),
        )
    return book


@pytest.fixture
def frames_book(book: Book) -> Book:
    """SyncVIS rises by 1 and 2 per frame, Mask2Former-VIS falls by 1 and 1.5 per frame."""
    book.describe(FRAMES)
    for seed in (0, 1):
        for method, step in {"SyncVIS": 1.0 + seed, "Mask2Former-VIS": -1.0 - seed / 2}.items():
            for frames in (2, 4, 6):
                book.add("frames", {"method": method, "T": frames}, seed, {"AP": 30 + step * frames})
    return book


@pytest.fixture
def read() -> Callable[[Book, str], Any]:
    """Book and experiment id -> Table."""
    from analysis.experiments import find_experiments
    from analysis.tables import ablation_table
    from analysis.trials import load_trials

    def table(book: Book, name: str) -> Any:
        trials = load_trials(book.ledger)
        return ablation_table(trials, find_experiments(book.experiments, trials.cells["experiment"], [name])[0])

    return table
