"""Faults around a sweep: a database that is away, loses answers or has a full disk; two at once; a dead launcher."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import TINY
from postgres_proxy import Proxy
from sweeping import NK, PATH, Place, ends

from sweeps.ledger import Ledger
from syncvis.config import set_dotted
from syncvis.errors import StorageError

OUTAGE = float(os.environ.get("SYNCVIS_OUTAGE", "12"))
"""Seconds without a server; longer than the leases here."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    return tmp_path


@pytest.fixture
def make(folder):
    """Places in the folder, closed afterwards."""
    made: list[Place] = []

    def place(values: int, seeds: int, storage: str | None = None, base: dict[str, Any] | None = None) -> Place:
        made.append(Place(folder, values, seeds, storage, base))
        return made[-1]

    yield place
    for place_made in made:
        place_made.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_away_costs_neither_workers_nor_cells(make, postgres, mode):
    place = make(8, 3, postgres.database("outage"))
    place.add()
    place.set("seconds", 1.0)
    workers = [place.worker(lease=5) for _ in range(4)]
    place.wait_until_running(4)
    postgres.restart(mode, down=OUTAGE if mode == "fast" else 2.0)
    for worker in workers:
        ends(worker)
    place.assert_all_done()
    outcomes = Counter(row["outcome"] for row in place.view.attempts())
    assert outcomes == {"done": 24}  # not even a try was lost


def test_cut_connections_are_opened_again(make, postgres):
    place = make(8, 2, postgres.database("cut"))
    place.add()
    place.set("seconds", 0.4)
    workers = [place.worker() for _ in range(4)]
    while not place.view.is_over():
        time.sleep(0.5)
        postgres.cut_connections()
    for worker in workers:
        ends(worker)
    place.assert_all_done()
    assert Counter(row["outcome"] for row in place.view.attempts()) == {"done": 16}


@pytest.mark.parametrize("where", ["request", "reply"])
def test_commits_without_an_answer_are_done_once(make, postgres, where):
    """Every third commit of a worker is lost: before the server heard of it, or after it was made."""
    with Proxy(postgres) as proxy:
        place = make(4, 2, postgres.database(f"lost_{where}"))
        place.add()
        direct, place.storage = place.storage, proxy.through(place.storage)
        worker = place.worker(lease=2)
        while worker.poll() is None:
            proxy.lose_commit(where, skip=2)
            time.sleep(0.15)
        ends(worker)
        place.storage = direct
        assert proxy.lost
    place.assert_all_done()
    assert Counter(row["outcome"] for row in place.view.attempts())["done"] == 8


def test_a_wrong_password_is_refused_at_once_and_not_shown(postgres):
    url = postgres.database("secret").replace(postgres.password, "wrong-canary")
    started = time.monotonic()
    with pytest.raises(StorageError, match="password authentication failed") as error:
        Ledger(url)
    assert time.monotonic() - started < 5
    assert "canary" not in str(error.value)


def test_passwords_are_in_no_file_and_no_argument(make, postgres, tiny_data):
    place = make(2, 1, postgres.database("quiet"), set_dotted(TINY, "data.root", str(tiny_data)))
    words = ["run", "nk", "--scale", "smoke", "--workers", "1"]
    sweep = place.start("-c", f"from sweeps.cli import app; app({words})", SYNCVIS_STORAGE=place.storage)
    place.add()
    place.wait_until_running(1)
    arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    sweep.send_signal(signal.SIGTERM)
    output, _ = sweep.communicate(timeout=30)
    assert postgres.password not in arguments
    assert postgres.password not in output
    for file in (place.folder / "outputs").rglob("*"):
        assert not file.is_file() or postgres.password.encode() not in file.read_bytes(), file


def test_two_sweeps_at_once_share_the_work(make):
    place = make(10, 2)
    place.set("seconds", 0.3)
    first, second = place.start_sweep(), place.start_sweep()
    ends(first)
    ends(second)
    place.assert_all_done()
    assert set(place.starts().values()) == {1}


def test_killing_the_whole_process_group_loses_nothing(make):
    place = make(4, 1)
    place.set("seconds", 5)
    sweep = place.start_sweep()
    place.wait_until_running(2)
    trials = [place.pid_of_trial(number) for number in (1, 2)]
    place.set("seconds", 0)
    sweep.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in trials):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    place.sweep()
    place.assert_all_done()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 KB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_named_and_loses_nothing(make, small_disk):
    place = make(2, 1, str(small_disk / "ledger.db"))
    place.add()
    place.ledger.finish(place.ledger.claim("elsewhere:boot:1:1", 60), {"metrics": {"AP": 1.0}})
    claim = place.ledger.claim("elsewhere:boot:1:2", 60)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"0" * 2**20)
    rows = dict.fromkeys(range(1000), "0" * 1000)
    with pytest.raises(StorageError, match=r"ledger\.db: the disk is full"):
        place.ledger.record(claim, rows)
    filler.unlink()
    place.ledger.finish(claim, {"metrics": {"AP": 2.0}})
    assert sorted(result["metrics"]["AP"] for result in place.view.results().values()) == [1.0, 2.0]
    with sqlite3.connect(small_disk / "ledger.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


def test_a_clock_that_jumps_kills_nobody(make, monkeypatch):
    """Leases of a SQLite ledger are counted on a clock that nobody sets."""
    place = make(1, 1)
    place.add()
    claim = place.ledger.claim("elsewhere:boot:1:1", 60)
    real = time.time
    for jump in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        place.ledger.reap()
        assert place.ledger.beat(claim, "elsewhere:boot:1:1")
    assert place.view.counts([NK])["running"] == 1
