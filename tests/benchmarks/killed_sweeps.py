"""Our sweeps and plain Optuna under the same kills, in one run.

    python tests/benchmarks/killed_sweeps.py --storage postgresql --grids 2

64 points, 4 workers, ``kill -9`` of a random worker at random times, started again at once; see ``plain_optuna.py``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from chaos import Chaos  # noqa: E402
from plain_optuna import HEADER, Outcome, Setup, databases, run_grid  # noqa: E402
from sweeping import FAKES, TESTS, Place  # noqa: E402
from zygote import Zygote  # noqa: E402


def run_ours(url: str, setup: Setup, seed: int, log: Path) -> Outcome:
    """One grid of 64 cells in an empty database; a lease is as long as Optuna's grace period there."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FAKE_FOLDER"] = folder
        place = Place(Path(folder), 16, 4, url.removeprefix("sqlite:///"))
        place.add()
        place.set("seconds", setup.trial)
        words = [
            place.storage,
            "--run",
            "fake_run:run",
            "--lease",
            str(setup.grace),
            "--poll",
            str(setup.heartbeat / 2),
        ]
        began, stuck = time.monotonic(), 0
        with Zygote(["sweeping", "sweeps.worker"], [TESTS, FAKES, TESTS.parent], log) as zygote:
            chaos = Chaos(
                lambda: zygote.start("sweeping:work", words),
                *(setup.workers, setup.kills, setup.gap, seed),
                deadline=setup.deadline,
            )
            try:
                chaos.run()
            except TimeoutError:
                stuck = 1
        return _count(place, chaos, stuck, time.monotonic() - began)


def _count(place: Place, chaos: Chaos, stuck: int, seconds: float) -> Outcome:
    done = Counter(row["number"] for row in place.view.attempts() if row["outcome"] == "done")
    lost, doubled = 64 - len(place.view.results()), sum(count > 1 for count in done.values())
    return Outcome(
        kills=chaos.counts["kill"],
        points=64,
        lost=lost,
        extra=done.total() - len(done),
        doubled=doubled,
        zombies=place.view.counts()["running"],
        died=chaos.counts["died"],
        stuck=stuck,
        clean=int(not lost and not doubled),
        grids=1,
        seconds=seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Our sweeps and plain Optuna under the same kills")
    parser.add_argument("--storage", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--grids", type=int, default=1, help="of each kind")
    parser.add_argument("--kills", type=int, default=Setup.kills, help="per grid")
    words = parser.parse_args()
    print(HEADER.replace("plain Optuna", "sweep"))
    for kind in ("ours", "queue", "grid"):
        setup = Setup("queue" if kind == "ours" else kind, words.kills)
        run = run_ours if kind == "ours" else run_grid
        with databases(words.storage) as (urls, folder):
            grids = [run(next(urls), setup, seed, folder / "log") for seed in range(words.grids)]
        name = "ours" if kind == "ours" else f"plain Optuna, {kind}"
        print(sum(grids[1:], start=grids[0]).row(f"{name}, {words.storage}"), flush=True)


if __name__ == "__main__":
    main()
