from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.trials import load_trials
from syncvis.errors import StorageError


def test_rows_of_the_tidy_frames(nk_book: Any) -> None:
    trials = load_trials(nk_book.ledger)
    assert len(trials.cells) == 6
    assert list(trials.cells["state"]) == ["done"] * 5 + ["gave_up"]
    assert len(trials.values) == 5 * 2  # finished cells x metrics
    assert len(trials.history) == 5 * 2
    assert len(trials.per_video) == 5 * 2
    row = trials.values.iloc[0]
    assert (row["experiment"], row["scale"], row["seed"], row["axis.Nk"]) == ("nk", "smoke", 0, 2)
    assert (row["metric"], row["value"], row["commit"]) == ("AP", 10.0, "0123456789abcdef")
    assert (row["seconds"], row["peak_memory_mb"], row["steps"], row["finished"]) == (1.5, 100.0, 10, 86401.0)
    assert trials.values["value"].isna().sum() == 2  # the NaN seed stays visible


def test_a_cell_of_two_experiments_is_two_rows_but_one_run(book: Any) -> None:
    name = book.add("nk", {"Nk": 10}, 0, {"AP": 1.0})
    book.join("momentum", {"momentum": 0.05}, name)
    trials = load_trials(book.ledger)
    assert list(trials.values["experiment"]) == ["momentum", "nk"]
    assert list(trials.values["axis.Nk"]) == [None, 10]  # still an int beside a missing one
    assert type(trials.values["axis.Nk"].iloc[1]) is int
    assert len(trials.per_video) == 2


def test_done_without_result_and_member_without_cell_are_missing(book: Any) -> None:
    book.add("nk", {"Nk": 2}, 0, None, state="done")
    with sqlite3.connect(book.ledger) as database:  # which does not look for the cell
        database.execute("INSERT INTO members VALUES ('nk', 'smoke', 'gone', 9, '{}')")
    assert list(load_trials(book.ledger).cells["state"]) == ["missing", "missing"]


@pytest.mark.parametrize("content", [None, b"", b"not a database, but long enough to look at" * 50])
def test_no_ledger_names_file_and_fix(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ledger.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=r"ledger\.db.*Fix: .*syncvis sweep run"):
        load_trials(path)
    assert path.exists() == (content is not None)  # reading makes no file


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_result_names_the_cell(book: Any, text: str) -> None:
    name = book.add("nk", {"Nk": 2}, 0, {"AP": 1.0})
    book.do(f"UPDATE results SET result = '{text}'")
    with pytest.raises(StorageError, match=f"{name}: holds damaged JSON"):
        load_trials(book.ledger)


def test_null_metric_is_nan(book: Any) -> None:
    name = book.add("nk", {"Nk": 2}, 0, {"AP": None})
    values = load_trials(book.ledger).values
    assert values["cell_hash"].iloc[0] == name
    assert math.isnan(values["value"].iloc[0])


def test_analysis_imports_no_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, analysis\n"
        "for m in pkgutil.iter_modules(analysis.__path__): importlib.import_module(f'analysis.{m.name}')\n"
        "assert 'analysis.report' in sys.modules\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'sweeps')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_module_loads_neither_pandas_nor_matplotlib() -> None:
    code = "import sys, analysis.cli; print([m for m in ('pandas', 'matplotlib', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("seed", None), ("cell_hash", "f" * 16)])
def test_the_result_of_another_cell_is_refused_and_names_both(book: Any, key: str, value: Any) -> None:
    name = book.add("nk", {"Nk": 2}, 0, {"AP": 1.0}, result={key: value})
    other = {"cell_hash": name, "seed": 0} | {key: value}
    problem = f"result of run {other['cell_hash']}, seed {other['seed']}, not of run {name}, seed 0"
    with pytest.raises(StorageError, match=rf"ledger\.db: results {name}: holds the {problem}"):
        load_trials(book.ledger)


def test_a_damaged_definition_names_the_study(book: Any) -> None:
    book.describe(book.nk)
    book.do("UPDATE studies SET definition = '{\"axes\": 3}'")
    with pytest.raises(StorageError, match=r"ledger\.db: studies nk-smoke: holds a damaged definition \(axes"):
        load_trials(book.ledger)


@pytest.mark.parametrize("change", [{"metrics": {"AP": "high"}}, {"metrics": [1]}, {"history": [3]}])
def test_metrics_that_are_no_numbers_name_the_cell(book: Any, change: Any) -> None:
    name = book.add("nk", {"Nk": 2}, 0, {"AP": 1.0}, result=change)
    with pytest.raises(StorageError, match=f"results {name}: holds metrics that are no numbers"):
        load_trials(book.ledger)
