"""A PostgreSQL server of the tests: on loopback and a free port, with its own folder, gone when the tests end."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from bound_process import bound

TIMEOUT = 60.0
FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off")
"""Safe when processes die, since the system keeps what was written; ``synchronous_commit`` must stay on for that."""
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, of the newest version where there are several."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    folders = [*debian, Path(on_path).resolve().parent] if on_path else debian
    return next((path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()), None)


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if programs() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'psycopg[binary]')"
    return None


class PostgresServer:
    """A server with its data and socket in ``folder``, an empty folder with a short path outside of root's own places.

    Only a password lets anybody in; it says that it must not be seen, so that a test can look for it in any output.
    It keeps its port over restarts.
    """

    def __init__(self, folder: Path, fsync: bool = False):
        self.password = f"canary-{secrets.token_hex(8)}"
        self.port = _free_port()
        self._folder, self._data, self._log = folder, folder / "data", folder / "log"
        self._settings = () if fsync else FAST
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    @property
    def url(self) -> str:
        """The database ``postgres``, which is always there."""
        return self._url("postgres")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def database(self, name: str = "test") -> str:
        """URL of a new, empty database whose name begins with ``name``; starts the server if a test left it stopped."""
        self.start()
        full = f"{name}_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{full}"')
        return self._url(full)

    def execute(self, statement: str, url: str | None = None) -> None:
        """Carry out one statement outside of any transaction."""
        engine = sa.create_engine(url or self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def cut_connections(self) -> None:
        """The server ends all other sessions, as an administrator may."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def start(self) -> None:
        """Return when it takes connections.

        Raises:
            RuntimeError: It ended or did not answer; with the end of its log.
        """
        if self.running:
            return
        if not self._data.exists():
            self._create()
        settings = (
            *(f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}"),
            *("shared_buffers=16MB", "dynamic_shared_memory_type=mmap"),
            *self._settings,
        )
        words = [word for setting in settings for word in ("-c", setting)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(_as_server("postgres", "-D", self._data, *words), stdout=log, stderr=log)
        self._wait_until_ready(self._process)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """``fast`` ends all sessions and closes the database; ``immediate`` leaves the repair to the next start."""
        if self._process is not None and self.running:
            self._process.send_signal(_SIGNALS[mode])
            self._process.wait(TIMEOUT)

    def restart(self, mode: Literal["fast", "immediate"] = "fast", down: float = 0.0) -> None:
        """Stop, stay away for ``down`` seconds, start."""
        self.stop(mode)
        time.sleep(down)
        self.start()

    def kill(self) -> None:
        """``kill -9`` of the server and all processes of its sessions, as in a crash of the machine."""
        if self._process is None or not self.running:
            return
        children = _children(self._process.pid)
        for pid in (self._process.pid, *children):
            with contextlib.suppress(ProcessLookupError):  # a session that has just ended
                os.kill(pid, signal.SIGKILL)
        self._process.wait(TIMEOUT)
        deadline = time.monotonic() + TIMEOUT
        while any(map(_lives, children)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def _create(self) -> None:
        secret = self._folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self._folder, secret):
                shutil.chown(path, _user())
        words = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={secret}")
        command = _as_server("initdb", "-D", self._data, *words, "--encoding=UTF8", "--locale=C", "--no-sync")
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        secret.unlink()
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stdout}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        file, deadline = self._data / "postmaster.pid", time.monotonic() + TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            lines = file.read_text().split() if file.exists() else []
            if lines and lines[0] == str(process.pid) and lines[-1] == "ready":
                return
            time.sleep(0.01)
        process.kill()
        process.wait()
        raise RuntimeError(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}")


def _user() -> str:
    """Whom the server runs as if the tests run as root, which it refuses."""
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"


def _as_server(program: str, *words: object) -> list[str]:
    folder = programs()
    assert folder is not None, missing()
    return bound(_user(), signal.SIGQUIT, [folder / program, *words])


def _children(parent: int) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _state(pid)[1:] == (str(parent),)]


def _lives(pid: int) -> bool:
    return _state(pid)[:1] not in ((), ("Z",))


def _state(pid: int) -> tuple[str, ...]:
    """State and parent of a process, or nothing where there is none (``proc_pid_stat(5)``)."""
    try:
        return tuple(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2])
    except OSError:
        return ()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
