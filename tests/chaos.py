"""Kill, freeze and interrupt workers at random times, and start them again at once, until their work is done."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal["kill", "terminate", "freeze"]
_POLL = 0.005


class Worker(Protocol):
    """What chaos needs of a process; ``subprocess.Popen`` and ``zygote.Fork`` have it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...


@dataclass(frozen=True)
class Event:
    """``what``: start, kill, terminate, freeze, thaw, died (unasked), restart (after any death), end (work done)."""

    seconds: float
    what: str
    pid: int
    code: int | None = None


@dataclass
class _Slot:
    worker: Worker
    struck: bool = False
    killed: bool = False
    thaw_at: float | None = None


@dataclass
class Chaos:
    """Workers under ``events`` events, in exponential gaps of ``gap`` seconds on average; then they may finish.

    Which event, which worker and which gap follow from ``seed``. A worker that ends with a code of ``final`` has ended
    for good; any other end, asked for or not, is followed by a new start. If all have ended, no more events come.

    Attributes:
        start: Starts one worker.
        kinds: Weights of SIGKILL (kill), SIGTERM (terminate), SIGSTOP and SIGCONT after ``frozen`` seconds (freeze).
        counts: Events so far, by ``Event.what``.
        log: All of them, in their order.
    """

    start: Callable[[], Worker]
    workers: int
    events: int
    gap: float
    seed: int
    kinds: Mapping[Kind, float] = field(default_factory=lambda: {"kill": 1.0})
    frozen: float = 1.0
    final: Collection[int] = (0,)
    deadline: float = 120.0
    counts: Counter[str] = field(default_factory=Counter, init=False)
    log: list[Event] = field(default_factory=list, init=False)
    _slots: list[_Slot] = field(default_factory=list, init=False)
    _began: float = field(default=0.0, init=False)

    def run(self) -> None:
        """Return when all workers have ended for good; nothing runs afterwards, whatever happens.

        Raises:
            TimeoutError: They had not after ``deadline`` seconds.
        """
        self._began = time.monotonic()
        chance, left = random.Random(self.seed), self.events
        due = chance.expovariate(1 / self.gap)
        try:
            self._slots = [_Slot(self._begin("start")) for _ in range(self.workers)]
            while self._slots:
                self._check_time()
                self._thaw()
                self._replace_ended()
                if left and self._now() >= due and self._strike(chance):
                    left, due = left - 1, due + chance.expovariate(1 / self.gap)
                time.sleep(_POLL)
        finally:
            self._end_all()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _check_time(self) -> None:
        if self._now() > self.deadline:
            tail = "\n".join(map(str, self.log[-20:]))
            raise TimeoutError(f"{len(self._slots)} workers still run after {self.deadline} s: {tail}")

    def _note(self, what: str, pid: int, code: int | None = None) -> None:
        self.counts[what] += 1
        self.log.append(Event(round(self._now(), 3), what, pid, code))

    def _begin(self, what: str) -> Worker:
        worker = self.start()
        self._note(what, worker.pid)
        return worker

    def _strike(self, chance: random.Random) -> bool:
        """One event, unless every worker is about to be replaced."""
        kind = chance.choices(list(self.kinds), list(self.kinds.values()))[0]
        victims = [slot for slot in self._slots if not slot.killed and slot.worker.poll() is None]
        if not victims:
            return False
        slot = chance.choice(victims)
        slot.worker.send_signal({"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "freeze": signal.SIGSTOP}[kind])
        if kind == "freeze":
            slot.thaw_at = self._now() + self.frozen
        else:
            slot.struck, slot.killed = True, kind == "kill"
        self._note(kind, slot.worker.pid)
        return True

    def _thaw(self) -> None:
        for slot in self._slots:
            if slot.thaw_at is not None and self._now() >= slot.thaw_at:
                slot.thaw_at = None
                slot.worker.send_signal(signal.SIGCONT)
                self._note("thaw", slot.worker.pid)

    def _replace_ended(self) -> None:
        self._slots = [new for slot in self._slots if (new := self._next(slot))]

    def _next(self, slot: _Slot) -> _Slot | None:
        code = slot.worker.poll()
        if code is None:
            return slot
        if code in self.final:
            self._note("end", slot.worker.pid, code)
            return None
        if not slot.struck:
            self._note("died", slot.worker.pid, code)
        return _Slot(self._begin("restart"))

    def _end_all(self) -> None:
        for slot in self._slots:
            slot.worker.send_signal(signal.SIGKILL)
        while any(slot.worker.poll() is None for slot in self._slots):
            time.sleep(_POLL)
        self._slots = []
