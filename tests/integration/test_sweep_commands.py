"""Commands of a sweep that start processes: more workers, and the dashboard."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from sweeping import PATH, Place, ends
from typer.testing import CliRunner

from sweeps.cli import app
from syncvis.errors import ConfigError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path, 4, 1)
    yield made
    made.close()


def test_workers_join_a_study_that_only_the_ledger_describes(place):
    place.add()
    for file in (place.folder / "experiments").rglob("*.yaml"):
        file.unlink()
    code = (  # with a run function that trains nothing
        "import functools, sweeps.commands.work as module\n"
        "module.SweepOptions = functools.partial(module.SweepOptions, run='fake_run:run')\n"
        "from sweeps.cli import app; app(['work', 'nk', '--workers', '2'])"
    )
    output = ends(place.start("-c", code))
    assert "4 of 4 cells done" in output
    assert not (place.folder / "outputs" / "wandb").exists()
    place.assert_all_done()


def test_an_unknown_study_is_named_with_those_there_are(place):
    place.add()
    result = CliRunner().invoke(app, ["work", "nq"])
    assert isinstance(result.exception, ConfigError)
    assert "there is no study 'nq'. Fix: take one of nk-smoke" in str(result.exception)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_dashboard_listens_on_this_machine_only_and_says_so(place):
    pytest.importorskip("optuna_dashboard")
    place.sweep()
    port = free_port()
    words = ["-c", f"from sweeps.cli import app; app(['dashboard', '--port', '{port}'])"]
    process = place.start("-u", *words)
    line = process.stdout.readline()
    assert f"http://127.0.0.1:{port}/ (this machine only)" in line
    page, deadline = "", time.monotonic() + 20
    while "nk-smoke" not in page:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                page = answer.read().decode()
        except OSError:
            continue
    listening = Path("/proc/net/tcp").read_text()
    addresses = re.findall(rf": ([0-9A-F]{{8}}):{port:04X} 00000000:0000 0A", listening)
    assert addresses == ["0100007F"]


def test_another_address_must_be_asked_for_twice(place):
    place.add()
    result = CliRunner().invoke(app, ["dashboard", "--host", "0.0.0.0"])
    assert isinstance(result.exception, ConfigError)
    assert "has no login" in str(result.exception)
