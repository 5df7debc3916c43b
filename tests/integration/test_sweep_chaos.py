"""The kill test: a grid of 64 cells under random kills, stops and freezes of workers and trials, on every storage."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter

import pytest
from chaos import Chaos
from sweeping import FAKES, NK, PATH, TESTS, Place
from zygote import Zygote

EVENTS = int(os.environ.get("SYNCVIS_BLOWS", "200"))
TRIAL_EVENTS = 30
LEASE = 3.0


@pytest.fixture(params=["sqlite", "postgresql"])
def place(tmp_path, request, monkeypatch):
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    made = Place(tmp_path, 16, 4, postgres.database("chaos") if postgres else None)
    yield made
    made.close()


class TrialKiller(threading.Thread):
    """Kills or freezes running trials, as the ledger names their processes, now and then; never a worker."""

    def __init__(self, place: Place, chaos: Chaos, seed: int):
        super().__init__(daemon=True)
        self._place, self._chaos, self._chance = place, chaos, random.Random(seed)
        self._over = threading.Event()
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        while sum(self.counts.values()) < TRIAL_EVENTS and not self._over.wait(self._chance.expovariate(1.5)):
            pids = [int(row["worker"].split(":")[-2]) for row in self._place.view.cells(states=["running"])]
            trials = set(pids) - {event.pid for event in self._chaos.log}
            if trials:
                kind = self._chance.choice([signal.SIGKILL, signal.SIGSTOP])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._chance.choice(sorted(trials)), kind)
                    self.counts[kind.name] += 1

    def end(self) -> None:
        self._over.set()
        self.join()


def test_sixty_four_cells_under_two_hundred_blows(place):
    place.add()
    place.set("seconds", 0.5)
    words = [place.storage, "--run", "fake_run:run", "--lease", str(LEASE), "--poll", "0.2"]
    with Zygote(["sweeping", "sweeps.worker"], [TESTS, FAKES, TESTS.parent], place.folder / "workers.log") as zygote:
        chaos = Chaos(
            lambda: zygote.start("sweeping:work", words),
            workers=4,
            events=EVENTS,
            gap=0.12,
            seed=0,
            kinds={"kill": 0.5, "terminate": 0.25, "freeze": 0.25},
            frozen=0.5,
            deadline=240,
        )
        killer = TrialKiller(place, chaos, seed=1)
        killer.start()
        chaos.run()
        killer.end()
    print(dict(chaos.counts), dict(killer.counts), dict(Counter(row["outcome"] for row in place.view.attempts())))
    blows = sum(chaos.counts[kind] for kind in ("kill", "terminate", "freeze"))
    assert blows >= EVENTS
    place.assert_all_done()
    outcomes = Counter((row["number"], row["outcome"]) for row in place.view.attempts())
    assert [outcomes[number, "done"] for number in range(1, 65)] == [1] * 64
    assert all(row["outcome"] for row in place.view.attempts())
    assert place.view.is_over([NK])
