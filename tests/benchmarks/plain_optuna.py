"""What plain Optuna keeps of a grid whose workers are killed, to be compared with our own sweeps under the same kills.

    python tests/benchmarks/plain_optuna.py grid --storage sqlite --grids 2
    python tests/benchmarks/plain_optuna.py queue --storage postgresql --grids 2 --json rows.json

``grid``: ``GridSampler``, heartbeats, and ``RetryHeartbeatStaleTrialCallback``; a worker optimizes until the sampler
stops it. ``queue``: all points enqueued first, heartbeats and the same retries; a worker takes what waits, looks for
stale trials itself when nothing does, and goes when nothing waits or runs, or nothing has waited for long.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import TrialState

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

from chaos import Chaos  # noqa: E402
from postgres import PostgresServer  # noqa: E402
from zygote import Zygote  # noqa: E402

SPACE = {name: [0, 1, 2, 3] for name in "abc"}
POINTS = list(itertools.product(*SPACE.values()))
STUDY = "grid"


@dataclass(frozen=True)
class Setup:
    """One grid: 64 points, 4 workers. Times in seconds; ``gap`` is the mean time between two kills."""

    kind: Literal["grid", "queue"] = "grid"
    kills: int = 20
    trial: float = 0.6
    gap: float = 0.6
    heartbeat: int = 1
    grace: int = 3
    workers: int = 4
    deadline: float = 150.0


@dataclass(frozen=True)
class Outcome:
    """Counts over one grid or several.

    Attributes:
        lost: Points without a result.
        extra: Results of points that had one already, which are ``doubled``.
        zombies: Trials that are RUNNING though no worker is left.
        died: Workers that ended with an error though nobody killed them; they were started again.
        stuck: Grids whose workers had not ended by the deadline.
        clean: Grids in which every point has exactly one result.
    """

    kills: int
    points: int
    lost: int
    extra: int
    doubled: int
    zombies: int
    died: int
    stuck: int
    clean: int
    grids: int
    seconds: float

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(*(x + y for x, y in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def row(self, name: str) -> str:
        kept = f"{self.clean}/{self.grids}"
        numbers = (self.kills, self.points, self.lost, self.extra, self.doubled, self.zombies, self.died, self.stuck)
        return f"| {name} | {' | '.join(map(str, numbers))} | {kept} | {self.seconds:.0f} |"


HEADER = """
| plain Optuna | kills | points | lost | extra results | points doubled | RUNNING left | died unasked | stuck | clean | s |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|""".lstrip()


def run_grid(url: str, setup: Setup, seed: int, log: Path) -> Outcome:
    """One grid in an empty database."""
    study = optuna.create_study(study_name=STUDY, storage=_storage(url, setup))
    if setup.kind == "queue":
        for point in POINTS:
            study.enqueue_trial(dict(zip(SPACE, point, strict=True)), user_attrs={"queued": True})
    began, stuck = time.monotonic(), 0
    with Zygote(["plain_optuna"], [HERE, HERE.parent], log) as zygote:
        chaos = Chaos(
            lambda: zygote.start("plain_optuna:work", url, asdict(setup)),
            *(setup.workers, setup.kills, setup.gap, seed),
            deadline=setup.deadline,
        )
        try:
            chaos.run()
        except TimeoutError:
            stuck = 1
    return _count(study, chaos, stuck, time.monotonic() - began)


def _count(study: optuna.Study, chaos: Chaos, stuck: int, seconds: float) -> Outcome:
    trials = study.get_trials(deepcopy=False)
    results = Counter(tuple(t.params[name] for name in SPACE) for t in trials if t.state == TrialState.COMPLETE)
    lost = sum(point not in results for point in POINTS)
    doubled = sum(count > 1 for count in results.values())
    return Outcome(
        kills=chaos.counts["kill"],
        points=len(POINTS),
        lost=lost,
        extra=results.total() - len(results),
        doubled=doubled,
        zombies=sum(t.state == TrialState.RUNNING for t in trials),
        died=chaos.counts["died"],
        stuck=stuck,
        clean=int(not lost and not doubled),
        grids=1,
        seconds=seconds,
    )


def work(url: str, settings: dict[str, Any]) -> None:
    """One worker, until it thinks that the grid is done."""
    _be_quiet()
    setup = Setup(**settings)
    sampler = optuna.samplers.GridSampler(SPACE) if setup.kind == "grid" else optuna.samplers.RandomSampler()
    study = optuna.load_study(study_name=STUDY, storage=_storage(url, setup), sampler=sampler)
    if not isinstance(sampler, optuna.samplers.GridSampler):
        _work_off_queue(study, setup)
    elif not sampler.is_exhausted(study):
        study.optimize(lambda trial: _evaluate(trial, setup))


def _work_off_queue(study: optuna.Study, setup: Setup) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 3 * setup.grace:
        states = {trial.state for trial in study.get_trials(deepcopy=False)}
        if TrialState.WAITING in states:
            study.optimize(lambda trial: _evaluate(trial, setup), n_trials=1)
            idle_since = time.monotonic()
        elif TrialState.RUNNING in states:
            fail_stale_trials(study)
            time.sleep(setup.heartbeat / 2)
        else:
            return


def _evaluate(trial: optuna.Trial, setup: Setup) -> float:
    if setup.kind == "queue" and "queued" not in trial.user_attrs:
        raise optuna.TrialPruned  # another worker was faster, and this trial is not of the queue
    value = sum(trial.suggest_categorical(name, values) for name, values in SPACE.items())
    time.sleep(setup.trial)
    return float(value)


def _storage(url: str, setup: Setup) -> RDBStorage:
    return RDBStorage(
        url,
        heartbeat_interval=setup.heartbeat,
        grace_period=setup.grace,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )


def _be_quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


@contextmanager
def databases(storage: Literal["sqlite", "postgresql"]) -> Iterator[tuple[Iterator[str], Path]]:
    """URLs of empty databases without end, and a folder for what is written beside them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if storage == "sqlite":
            yield (f"sqlite:///{folder}/{number}.db" for number in itertools.count()), folder
        else:
            server = PostgresServer(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            stack.callback(server.stop, "immediate")
            yield (server.database() for _ in itertools.count()), folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Plain Optuna under kills")
    parser.add_argument("kind", choices=["grid", "queue"])
    parser.add_argument("--storage", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--grids", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the first grid's kills")
    parser.add_argument("--kills", type=int, default=Setup.kills, help="per grid")
    parser.add_argument("--trial", type=float, default=Setup.trial)
    parser.add_argument("--gap", type=float, default=Setup.gap)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="what the workers print")
    words = parser.parse_args()
    _be_quiet()
    setup = Setup(words.kind, words.kills, words.trial, words.gap)
    with databases(words.storage) as (urls, folder):
        log = words.log or folder / "log"
        grids = [run_grid(next(urls), setup, words.seed + number, log) for number in range(words.grids)]
    total = sum(grids[1:], start=grids[0])
    print(HEADER, total.row(f"{words.kind}, {words.storage}"), sep="\n")
    if words.json:
        words.json.write_text(json.dumps({"setup": asdict(setup), "storage": words.storage, **asdict(total)}, indent=1))


if __name__ == "__main__":
    main()
