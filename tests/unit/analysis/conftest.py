"""A synthetic ledger in the sweeps' own tables, with numbers that are easy to check by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeps import database
from sweeps.definition import Study
from sweeps.experiment import load_experiment, study_at
from syncvis.errors import WorkbenchError

BASE = """
data: {root: outputs/data/tiny}
sync: {num_selected: 10}
subclips: {}
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
paper_ref: Table 4
base: base/{scale}.yaml
axes: {parts: {variants: {baseline: {sync: null, subclips: null}, +SVFM: {subclips: null}, other: {}}}}
seeds: {smoke: [0]}
metrics: [AP, AP50]
reference: readme_components
table: {rows: [parts], columns: metrics}
"""


SEARCH = """
id: search
title: Search over the exchange
question: Which settings are best together?
paper_ref: Tables 7, 8
base: base/{scale}.yaml
axes:
  exchange: {variants: {none: {method.structure: video_only, sync: null}, with: {}}}
  Nk: {key: sync.num_selected, range: {low: 1, high: 16, log: true}, when: {exchange: with}}
seeds: [0, 1]
search: {trials: 40}
metrics: [AP, AP50]
"""


class Book:
    """Fills an output folder: a ledger, experiment files and run folders."""

    nk, frames, components, search = NK, FRAMES, COMPONENTS, SEARCH

    def __init__(self, root: Path, storage: str | None = None):
        self.out = root / "outputs"
        self.experiments = root / "experiments"
        self.out.mkdir()
        (self.experiments / "base").mkdir(parents=True)
        (self.experiments / "base" / "smoke.yaml").write_text(BASE)
        self.ledger = storage or self.out / "ledger.db"
        self.database = database.Database(self.ledger)
        self.studies: dict[str, Study] = {}
        self.count = self.position = 0

    def do(self, *statements: Any) -> None:
        """Carry out statements, of SQLAlchemy or as text."""
        made = [sa.text(statement) if isinstance(statement, str) else statement for statement in statements]
        self.database.run(lambda connection: [connection.execute(statement) for statement in made])

    def describe(self, text: str, scale: str = "smoke", on: str = "") -> None:
        """Write an experiment file, and its study at a scale into the ledger, on a recipe if it stands on one."""
        name = next(line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: "))
        file = self.experiments / f"{name}.yaml"
        file.write_text(text)
        study = study_at(load_experiment(file), scale, on)
        name = study.experiment
        self.studies[name] = study
        state = {"run_root": "runs", "size": 0, "exhausted": False, "stopping": False, "created": 0}
        definition = json.dumps(study.model_dump(mode="json"))
        row = {"experiment": name, "scale": scale, "definition": definition, **state}
        self.do(database.studies.insert().values(**row))

    def add(self, experiment: str, axes: dict[str, Any], seed: int, metrics: dict[str, Any] | None, **more: Any) -> str:
        """Add one cell; without metrics it is not finished (``state=`` says how far it came)."""
        self.count += 1
        name = more.get("cell_hash", f"{self.count:016x}")
        cell = {
            "cell_hash": name,
            "number": more.get("number", self.count),
            "variant_hash": f"v{self.count}",
            "seed": seed,
            "config": self._config(experiment, axes, seed),
            "state": more.get("state", "done" if metrics is not None else "planned"),
            "error": more.get("error"),
            "run_dir": more.get("run_dir", str(self.out / "runs" / name)),
            "created": 0.0,
            **dict.fromkeys(("attempt", "failures", "deaths", "losses"), 0),
        }
        self.do(database.cells.insert().values(**cell))
        self.join(experiment, axes, name, more.get("scale", "smoke"))
        if metrics is not None:
            text = json.dumps(result(name, seed, metrics) | more.get("result", {}))
            row = {"cell_hash": name, "attempt": 1, "result": text, "finished": 86400.0 + self.count}
            self.do(database.results.insert().values(**row))
        for line, value in enumerate(more.get("reports", [])):
            row = {"cell_hash": name, "line": line, "attempt": 1, "row": json.dumps({"step": line, "eval/AP": value})}
            self.do(database.metrics.insert().values(**row))
        return name

    def join(self, experiment: str, axes: dict[str, Any], name: str, scale: str = "smoke") -> None:
        self.position += 1
        row = {"experiment": experiment, "scale": scale, "cell_hash": name, "position": self.position}
        self.do(database.members.insert().values(**row, axes=json.dumps(axes)))

    def _config(self, experiment: str, axes: dict[str, Any], seed: int) -> str:
        """The cell's own where the study is described and has the point."""
        try:
            return self.studies[experiment].cell(axes, seed, 0).config.canonical()
        except (KeyError, WorkbenchError):
            tree = {"data": {"root": "outputs/data/tiny"}, "method": {"name": "mask2former_vis"}}
            return json.dumps(tree | {"train": {"steps": 10}})


def result(name: str, seed: int, metrics: dict[str, Any]) -> dict[str, Any]:
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
def book_at() -> type[Book]:
    """Folder, and perhaps a database's URL -> Book."""
    return Book


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
    from analysis.choice import find_experiments
    from analysis.tables import ablation_table
    from analysis.trials import load_trials

    def table(book: Book, name: str) -> Any:
        trials = load_trials(book.ledger)
        return ablation_table(trials, find_experiments(trials, book.experiments, [name])[0])

    return table
