"""Commands of a sweep that start processes: more workers, and the dashboard."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import time
from contextlib import closing
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


def test_workers_join_a_study_that_only_the_ledger_describes(place, tiny_data):
    place.add()
    (place.folder / "data").symlink_to(tiny_data)
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


def test_the_dashboard_listens_on_this_machine_only_and_shows_a_copy_that_no_request_can_hurt(place):
    pytest.importorskip("optuna_dashboard")
    place.sweep()
    port, optuna = free_port(), place.folder / "outputs" / "optuna.db"
    kept, cells = optuna.read_bytes(), place.view.rows()
    words = ["-c", f"from sweeps.cli import app; app(['dashboard', '--port', '{port}'])"]
    process = place.start("-u", *words)
    assert f"http://127.0.0.1:{port}/ (this machine only)" in process.stdout.readline()
    assert re.search(r"a copy of outputs/ledger.db, taken 20\d\d-.* read-only", process.stdout.readline())
    wait_for(port)
    assert b"nk-smoke" in asked(port, "GET", "/api/studies")[1]
    for path in ("/dashboard", "/api/studies/0", "/static/bundle.js"):
        assert asked(port, "GET", path, Host=f"localhost:{port}")[0] == 200
    assert asked(port, "DELETE", "/api/studies/0", Origin=f"http://127.0.0.1:{port}")[0] == 405
    foreign = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
    for method in ("GET", "DELETE"):
        assert asked(port, method, "/api/studies/0", **foreign)[0] == 403
        assert asked(port, method, "/api/studies/0", Origin="http://evil.example")[0] == 403
    assert b"nk-smoke" in asked(port, "GET", "/api/studies")[1]
    assert (optuna.read_bytes(), place.view.rows()) == (kept, cells)
    listening = Path("/proc/net/tcp").read_text()
    addresses = re.findall(rf": ([0-9A-F]{{8}}):{port:04X} 00000000:0000 0A", listening)
    assert addresses == ["0100007F"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def asked(port: int, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_port_that_is_taken_is_named(place):
    pytest.importorskip("optuna_dashboard")
    place.add()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = CliRunner().invoke(app, ["dashboard", "--port", str(listener.getsockname()[1])])
    assert isinstance(result.exception, ConfigError)
    assert "cannot be used (Address already in use). Fix: choose another one" in str(result.exception)


def test_another_address_must_be_asked_for_twice(place):
    place.add()
    result = CliRunner().invoke(app, ["dashboard", "--host", "0.0.0.0"])
    assert isinstance(result.exception, ConfigError)
    assert "has no login" in str(result.exception)
