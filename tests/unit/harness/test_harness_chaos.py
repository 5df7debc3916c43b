"""Kills, freezes and interrupts hit running workers, and every worker that did not finish is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos import Chaos, Kind
from zygote import Fork, Zygote

HERE = Path(__file__).parent
STEPS = 120
ALL: dict[Kind, float] = {"kill": 1.0, "terminate": 1.0, "freeze": 1.0}


def count_to(file: str, steps: int) -> None:
    """A worker: one byte to the file every 10 ms until it has ``steps``; 75 when interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    while Path(file).stat().st_size < steps:
        with open(file, "ab") as stream:
            stream.write(b".")
        time.sleep(0.01)


def fail(code: int) -> None:
    sys.exit(code)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    with Zygote([Path(__file__).stem], [HERE]) as process:
        yield process


@pytest.fixture
def counting(zygote: Zygote, tmp_path: Path) -> Callable[[str], Callable[[], Fork]]:
    """Starts workers that fill a file of that name together."""

    def starter(name: str) -> Callable[[], Fork]:
        (tmp_path / name).touch()
        return lambda: zygote.start(f"{Path(__file__).stem}:count_to", str(tmp_path / name), STEPS)

    return starter


def _gone(pid: int) -> bool:
    """Whether the process has ended; nobody may have asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_all_kinds_of_events(counting: Callable[[str], Callable[[], Fork]], tmp_path: Path) -> None:
    chaos = Chaos(counting("file"), 3, events=20, gap=0.02, seed=1, kinds=ALL, frozen=0.05, deadline=30)
    chaos.run()
    struck = [chaos.counts[kind] for kind in ALL]
    assert sum(struck) == 20
    assert min(struck) > 0
    assert chaos.counts["end"] == 3
    assert chaos.counts["died"] == 0
    assert 0 < chaos.counts["thaw"] <= chaos.counts["freeze"]
    assert (tmp_path / "file").stat().st_size >= STEPS
    assert all(_gone(event.pid) for event in chaos.log)


def test_kinds_of_events_follow_from_the_seed(counting: Callable[[str], Callable[[], Fork]]) -> None:
    def kinds(name: str, seed: int) -> list[str]:
        chaos = Chaos(counting(name), 2, events=8, gap=0.02, seed=seed, kinds=ALL, frozen=0.02)
        chaos.run()
        return [event.what for event in chaos.log if event.what in ALL]

    first = kinds("a", 4)
    assert len(first) == 8
    assert kinds("b", 4) == first != kinds("c", 5)


def test_a_death_that_nobody_asked_for_is_counted(zygote: Zygote) -> None:
    codes = iter([3, 5, 0])
    chaos = Chaos(lambda: zygote.start(f"{Path(__file__).stem}:fail", next(codes)), 1, events=0, gap=1.0, seed=0)
    chaos.run()
    assert [(event.what, event.code) for event in chaos.log if event.code is not None] == [
        ("died", 3),
        ("died", 5),
        ("end", 0),
    ]


def test_a_deadline_ends_everything(zygote: Zygote) -> None:
    started: list[Fork] = []

    def start() -> Fork:
        started.append(zygote.start(f"{Path(__file__).stem}:sleep", 60))
        return started[-1]

    chaos = Chaos(start, 2, events=1, gap=0.01, seed=0, kinds={"freeze": 1.0}, frozen=60, deadline=0.3)
    with pytest.raises(TimeoutError, match="2 workers still run"):
        chaos.run()
    assert [worker.poll() for worker in started] == [-signal.SIGKILL] * 2


def test_workers_may_be_commands() -> None:
    command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(0.3)"]
    chaos = Chaos(lambda: subprocess.Popen(command), 2, events=3, gap=0.05, seed=0)
    chaos.run()
    assert chaos.counts == {"start": 2, "kill": 3, "restart": 3, "end": 2}


def test_forks_die_with_their_owner() -> None:
    code = (
        "import time; from zygote import Zygote\n"
        f"with Zygote([], [{str(HERE)!r}]) as zygote:\n"
        f"    print(zygote.start('{Path(__file__).stem}:sleep', 60).pid, flush=True)\n"
        "    time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 10
    while not _gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _gone(pid)
