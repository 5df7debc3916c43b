"""What a sweep costs beside the training: per trial, and as its ledger grows; as ratios within the same run.

``pytest -s tests/benchmarks/test_benchmark_sweep.py`` prints the figures; ``SYNCVIS_TRIALS=1000`` takes more trials.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import TINY
from sweeping import NK, PATH, Place, ends

from sweeps.database import metrics, results
from sweeps.experiment import Cell
from syncvis.config import set_dotted

TRIALS = int(os.environ.get("SYNCVIS_TRIALS", "80"))
WORKERS = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    made = Place(tmp_path, 10, TRIALS // 10, postgres.database("benchmark") if postgres else None)
    yield made
    made.close()


def test_trials_that_do_nothing_cost_less_than_a_python_that_imports_the_ledger(place: Place) -> None:
    place.add()
    started = time.monotonic()
    for worker in [place.worker() for _ in range(WORKERS)]:
        ends(worker)
    per_trial = (time.monotonic() - started) / TRIALS
    place.assert_all_done()
    reference = min(_seconds_of("import sweeps.ledger") for _ in range(3))
    print(f"\n{TRIALS} trials, {WORKERS} workers: {1 / per_trial:.0f} a second; one process: {reference:.2f} s")
    assert per_trial < reference


def test_a_training_in_a_sweep_costs_little_more_than_the_training(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting processes, imports, storage: all that a worker spends beside what its runs say that they took."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    tree = set_dotted(TINY, "data.root", str(tiny_data))
    place = Place(tmp_path, 4, 2, base={name: part for name, part in tree.items() if name not in ("seed", "scale")})
    place.run = "syncvis.training.run:run"
    place.add()
    started = time.monotonic()
    ends(place.worker())
    wall = time.monotonic() - started
    results, attempts = place.view.results().values(), place.view.attempts()
    trained = sum(result["seconds"]["total"] for result in results)
    imports = _seconds_of("import syncvis.training.run")
    working = attempts[-1]["ended"] - attempts[0]["started"]
    each = (working - trained - imports) / len(attempts)
    mean = trained / len(attempts)
    print(f"\n{len(attempts)} trainings: {each:.2f} s each beside {mean:.2f} s of training; ", end="")
    print(f"{wall - trained:.1f} s in all beside {trained:.1f} s, of which importing once {imports:.1f} s")
    assert each < imports / 4
    place.close()


def test_the_ledger_answers_as_fast_after_ten_thousand_trials(place: Place) -> None:
    small = _seconds_of_a_trial(place, 100)
    large = _seconds_of_a_trial(place, 10_000)
    print("\n" + "; ".join(f"{name} {1e3 * small[name]:.2f} -> {1e3 * large[name]:.2f} ms" for name in small))
    slower = {name: large[name] / small[name] for name in small}
    assert all(ratio < 5 for name, ratio in slower.items() if name != "counts"), slower
    assert large["counts"] < 20 * large["claim"]  # the one question that looks at all cells


def _seconds_of(code: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - started


def _seconds_of_a_trial(place: Place, size: int) -> dict[str, float]:
    """Of each step of a trial, the median of 20, in a study of which all other cells are done or planned."""
    ledger, first = place.ledger, place.cells[0]
    cells = [Cell(NK.experiment, NK.scale, {"Nk": n}, 0, first.config, f"{size:05x}{n:011x}", n) for n in range(size)]
    ledger.add(NK, place.study.model_dump(mode="json"), cells, "runs")
    _finish_all_but(ledger, size // 2)
    seconds: dict[str, list[float]] = {}
    for n in range(20):
        for name, step in _steps(ledger, n):
            started = time.perf_counter()
            step()
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}


def _finish_all_but(ledger, left: int) -> None:
    """Done by hand: half of the cells have ended, with results and rows."""
    result = json.dumps({"metrics": {"AP": 1.0}})
    number = "SELECT cell_hash FROM cells WHERE state = 'planned' ORDER BY number DESC LIMIT"
    done = f"SELECT cell_hash FROM cells WHERE state = 'planned' AND cell_hash NOT IN ({number} {left})"

    def work(connection) -> None:
        hashes = [row[0] for row in connection.exec_driver_sql(done)]
        connection.execute(
            results.insert(), [{"cell_hash": h, "attempt": 1, "result": result, "finished": 1.0} for h in hashes]
        )
        rows = [{"cell_hash": h, "line": n, "attempt": 1, "row": '{"step": 1}'} for h in hashes for n in range(3)]
        connection.execute(metrics.insert(), rows)
        ended = "UPDATE cells SET state = 'done', attempt = 1, finished = 1.0 WHERE state = 'planned' AND "
        connection.exec_driver_sql(f"{ended} cell_hash NOT IN ({number} {left})")

    ledger._database.run(work)


def _steps(ledger, n: int):
    claims = []
    yield "claim", lambda: claims.append(ledger.claim(f"elsewhere:boot:{n}:1", 600, [NK]))
    (claim,) = claims
    yield "beat", lambda: ledger.beat(claim, "elsewhere:boot:1:2")
    yield "record", lambda: ledger.record(claim, {0: '{"step": 1}'})
    yield "finish", lambda: ledger.finish(claim, {"metrics": {"AP": 1.0}})
    yield "running", lambda: ledger.view.cells([NK], ["running"])
    yield "is over", lambda: ledger.view.is_over([NK])
    yield "counts", lambda: ledger.view.counts([NK])
