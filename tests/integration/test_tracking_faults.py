"""The mirror under kills, freezes, full disks and broken installations: nothing waits for it, and it catches up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from trials import (
    Trials,
    core_pids,
    mirror_pids,
    row_of,
    start_mirror_from_another_process,
    wait_for,
)
from wandb_runs import merged, read_runs


@pytest.fixture
def trials(tmp_path):
    made = Trials(tmp_path, 12)
    yield made
    for pid in mirror_pids(made.wandb):
        os.kill(pid, signal.SIGKILL)


def assert_nothing_left(trials):
    wait_for(lambda: not mirror_pids(trials.wandb), 10)
    assert "W&B mirror" not in [thread.name for thread in threading.enumerate()]


def test_a_running_trial_is_followed_through_a_second_attempt(trials):
    mirror = trials.mirror()
    first = trials.claim(9)
    wait_for(lambda: list(trials.wandb.glob("offline-run-*")))
    trials.ledger.release(first)
    second = trials.claim(0)
    trials.record(second, 6, scale=2.0)  # the lines from 6 on are still the first attempt's
    time.sleep(1.0)
    trials.record(second, 6, 6, scale=2.0)
    trials.finish(second)
    mirror.close(30)
    runs = trials.assert_mirrored(1)
    assert runs[1].rows() == merged(row_of(line, 2.0) for line in range(12))
    assert_nothing_left(trials)


def test_kills_at_any_moment_lose_and_double_nothing(trials):
    trials.done(8, rows=250)
    dice, mirror = random.Random(0), trials.mirror()
    for _ in range(3):
        (pid,) = wait_for(lambda: mirror_pids(trials.wandb))
        wait_for(lambda pid=pid: core_pids(trials.wandb) or pid not in mirror_pids(trials.wandb))
        time.sleep(dice.uniform(0.0, 0.5))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: pid not in mirror_pids(trials.wandb))
    mirror.close(40)
    assert trials.waiting() == 0
    trials.assert_mirrored(8)
    assert_nothing_left(trials)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_frozen_service_is_replaced(trials, sign):
    trials.claim(6)
    mirror = trials.mirror(silence=3.0)
    (core,) = wait_for(lambda: core_pids(trials.wandb))
    wait_for(lambda: list(trials.wandb.glob("offline-run-*")))
    os.kill(core, sign)
    trials.done(2)
    mirror.close(30)
    assert trials.waiting() == 0
    runs = read_runs(trials.wandb)
    assert {n: run.exit_code for n, run in runs.items()} == {1: 1, 2: 0, 3: 0}
    wait_for(lambda: core not in core_pids(trials.wandb), 10)
    assert_nothing_left(trials)


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_is_left_when_the_starter_is_killed(trials, frozen):
    trials.claim(3)
    starter = start_mirror_from_another_process(trials)
    (core,) = wait_for(lambda: core_pids(trials.wandb))
    if frozen:
        os.kill(core, signal.SIGSTOP)
    starter.kill()
    starter.wait()
    wait_for(lambda: not mirror_pids(trials.wandb) and not Path(f"/proc/{core}").exists(), 10)


BROKEN = {
    "not importable": "raise ImportError('no wandb')",
    "hangs": "import time; time.sleep(600)",
    "no binary": "def Settings(**_): pass\ndef init(**_): raise FileNotFoundError('wandb-core')",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_wandb_costs_bounded_time(trials, tmp_path, monkeypatch, body):
    trials.done(2)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wandb.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    started = time.monotonic()
    trials.mirror().close(1.0)
    assert time.monotonic() - started < 3
    assert trials.waiting() == 2
    assert_nothing_left(trials)


@pytest.fixture
def mounted(trials):
    """Mount W&B's folder with options; unmounted in the end."""

    def mount(options: str) -> None:
        trials.wandb.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(trials.wandb)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no mount: {done.stderr.strip()}")

    yield mount
    subprocess.run(["umount", "-l", str(trials.wandb)], capture_output=True)


@pytest.mark.parametrize("options", ["size=200k", "ro"])
def test_a_full_or_read_only_disk_ends_in_bounded_time_and_is_caught_up_later(trials, mounted, options):
    mounted(options)
    trials.done(2, rows=1000)
    started = time.monotonic()
    trials.mirror().close(25)
    assert time.monotonic() - started < 26
    assert trials.waiting() >= 1
    assert_nothing_left(trials)
    subprocess.run(["umount", "-l", str(trials.wandb)], check=True)
    trials.mirror_all()
    trials.assert_mirrored(2)


def test_what_trains_and_what_plans_does_not_import_wandb():
    code = "import sys, sweeps.trial, sweeps.worker, sweeps.cli; print({'wandb', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
