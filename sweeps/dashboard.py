"""Optuna's dashboard over a copy of the ledger, behind a door that lets only its own pages in, and only to read.

The copy lives in memory, so that nothing that reaches the dashboard can change the ledger or Optuna's storage. The door
keeps out pages of other sites that a browser of this machine has open, also those whose name was made to point here.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from sweeps.definition import Study
from sweeps.trials import SearchRow, distributions, quiet, trial_of
from syncvis.errors import ConfigError, StorageError

REFRESH_SECONDS = 30.0
READING = ("GET", "HEAD")

Rows = Sequence[tuple[Study, Sequence[SearchRow]]]
WsgiApp = Callable[..., Iterable[bytes]]


@dataclass(frozen=True)
class Address:
    """Where the dashboard listens, and by which names its own pages call it."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        ip = _ip(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback

    @property
    def name(self) -> str:
        """The host as it stands in an URL."""
        return f"[{self.host}]" if ":" in self.host else self.host.lower()

    @property
    def url(self) -> str:
        return f"http://{self.name}:{self.port}/"

    def owns(self, netloc: str) -> bool:
        """Whether a ``name:port`` is this one: no other name, to which anybody may give this address."""
        name, port = re.fullmatch(r"(.*?)(?::(\d+))?", netloc.lower(), re.DOTALL).groups()  # type: ignore[union-attr]
        if (port or "80") != str(self.port):
            return False
        ours, ip = _ip(self.host), _ip(name.strip("[]"))
        if self.is_loopback:
            return name in ("127.0.0.1", "localhost", "[::1]", self.name)
        if ours is not None and ours.is_unspecified and ip is not None:
            return True
        return name in (self.name, *_machine_names())


class Dashboard:
    """The dashboard as a WSGI application; a request that finds its copy older than ``seconds`` has a new one taken.

    Args:
        look: gives the studies of the ledger with their cells.
        place: the ledger's name, for the note in each study.

    Raises:
        StorageError: The ledger cannot be read; later, the last copy is kept then.
    """

    def __init__(self, look: Callable[[], Rows], place: str, seconds: float = REFRESH_SECONDS):
        self._look, self._place, self._seconds, self._lock = look, place, seconds, threading.Lock()
        self._app, self.taken = self._copied()
        self._next = time.monotonic() + seconds

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            if time.monotonic() >= self._next:
                with suppress(StorageError):
                    self._app, self.taken = self._copied()
                self._next = time.monotonic() + self._seconds
        return self._app(environ, start_response)

    def _copied(self) -> tuple[WsgiApp, str]:
        from optuna_dashboard import wsgi

        taken = time.strftime("%Y-%m-%d %H:%M:%S")
        note = (
            f"A copy of {self._place}, taken {taken}. Nothing can be changed here; load the page again for a new one."
        )
        return wsgi(copy_of(self._look(), note)), taken


def copy_of(studies: Rows, note: str) -> InMemoryStorage:
    """The studies with all their cells as an Optuna storage in memory; a trial has the number that users see."""
    from optuna_dashboard import save_note

    storage = InMemoryStorage()
    with quiet():
        for study, rows in studies:
            told = optuna.create_study(storage=storage, study_name=study.name, direction="maximize")
            save_note(told, note)
            space = distributions(study)
            shown = sorted((row for row in rows if study.holds(row.axes)), key=lambda row: row.number or 0)
            told.add_trials([_waiting(trial_of(study, row, space), row) for row in shown])
            trials = storage.get_all_trials(storage.get_study_id_from_name(study.name), deepcopy=False)
            for trial, row in zip(trials, shown, strict=True):
                trial.number = row.number or 0
    return storage


def _waiting(trial: FrozenTrial, row: SearchRow) -> FrozenTrial:
    """A planned cell is one that runs for samplers only."""
    if row.state == "planned":
        trial.state, trial.datetime_start = TrialState.WAITING, None
    return trial


def door(app: WsgiApp, address: Address) -> WsgiApp:
    """The application for requests that its own pages, or nobody's, make to read; all others are refused."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        stranger = _stranger(environ, address)
        if stranger:
            return _refuse(start_response, "403 Forbidden", f"{stranger} is not this dashboard; open {address.url}")
        if environ["REQUEST_METHOD"] not in READING:
            reason = "this is a copy of the ledger, in which nothing can be changed"
            return _refuse(start_response, "405 Method Not Allowed", reason, ("Allow", ", ".join(READING)))
        return app(environ, start_response)

    return guarded


def serve(app: WsgiApp, address: Address) -> None:
    """Answer requests until Ctrl-C.

    Raises:
        ConfigError: It cannot listen there.
    """

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET

    try:
        server = make_server(address.host, address.port, app, Server, _QuietHandler)
    except OSError as error:
        fix = "choose another one; something else may listen there"
        raise ConfigError(f"cannot be used ({error.strerror})", key=f"--port {address.port}", fix=fix) from None
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page asks every few seconds."""


def _stranger(environ: dict[str, Any], address: Address) -> str | None:
    """What names another place than this dashboard in the request, if something does."""
    host, origin, referer = (environ.get(f"HTTP_{name}") for name in ("HOST", "ORIGIN", "REFERER"))
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    if host is None or not address.owns(host):
        return f"host {host!r}"
    if origin is not None and not _is_own(origin, address):
        return f"origin {origin!r}"
    if referer is not None and not _is_own(referer, address):
        return f"referer {referer!r}"
    return None if site in ("none", "same-origin") else f"a {site} page"


def _is_own(url: str, address: Address) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "http" and address.owns(parts.netloc)


def _refuse(start_response: Callable[..., Any], status: str, reason: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = json.dumps({"reason": reason}).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]


@cache
def _machine_names() -> tuple[str, str]:
    return socket.gethostname().lower(), socket.getfqdn().lower()


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
