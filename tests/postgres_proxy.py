"""A network that fails on demand, between a client and a PostgreSQL server of the tests."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Literal

from postgres import PostgresServer

_ENCRYPTION_REQUESTS = {80877103, 80877104}
"""Codes of SSLRequest and GSSENCRequest (PostgreSQL documentation, Message Formats)."""
_POLL = 0.02


@dataclass
class _Loss:
    where: Literal["request", "reply"]
    skip: int


class Proxy:
    """Forwards a free port of 127.0.0.1 to the server; a context manager.

    Attributes:
        lost: How many COMMITs were lost so far.
    """

    def __init__(self, server: PostgresServer):
        self.lost = 0
        self._server = server
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._loss: _Loss | None = None
        self._deaf_until = 0.0
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Proxy:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._accepting.join()
        self._listener.close()
        self.cut()

    def through(self, url: str) -> str:
        """The URL of the same database by way of the proxy."""
        return url.replace(f"127.0.0.1:{self._server.port}/", f"127.0.0.1:{self.port}/")

    def cut(self) -> int:
        """Close all connections on both sides; how many there were."""
        with self._lock:
            pairs = list(self._pairs)
            self._pairs.clear()
        for pair in pairs:
            _close(pair)
        return len(pairs)

    def refuse(self, seconds: float) -> None:
        """Take no new connection for so long; those that stand go on."""
        with self._lock:
            self._deaf_until = time.monotonic() + seconds
            with contextlib.suppress(OSError):  # it was deaf already
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which would still let one in
            self._listener.close()

    def lose_commit(self, where: Literal["request", "reply"] = "reply", skip: int = 0) -> None:
        """Close the connection of one COMMIT to come, after ``skip`` others.

        ``reply``: the server has committed, and the client never hears of it. ``request``: the server never hears of
        it. The client cannot tell the one from the other.
        """
        with self._lock:
            self._loss = _Loss(where, skip)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._current_listener().accept()
            except OSError:  # nobody came within the time limit, or nobody may come
                time.sleep(_POLL / 10)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _current_listener(self) -> socket.socket:
        with self._lock:
            if self._listener.fileno() < 0 and time.monotonic() >= self._deaf_until:
                self._listener = _listen(self.port)
            return self._listener

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(None)
        try:
            server = socket.create_connection(("127.0.0.1", self._server.port))
        except OSError:
            client.close()
            return
        pair = (client, server)
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.add(pair)
        replies = threading.Thread(target=self._forward, args=(pair, server, client, "reply"), daemon=True)
        replies.start()
        self._forward(pair, client, server, "request")
        replies.join()
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            end.close()

    def _forward(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, target: socket.socket, way: str
    ) -> None:
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            if way == "request":
                target.sendall(_startup(stream, source))
            for message in _messages(stream):
                if self._loses(message, way):
                    break
                target.sendall(message)
        _close(pair)

    def _loses(self, message: bytes, way: str) -> bool:
        """Whether this is the COMMIT to be lost: a simple query, or the completion of a command."""
        if message[:1] != (b"Q" if way == "request" else b"C") or message[5:].rstrip(b"\0") != b"COMMIT":
            return False
        with self._lock:
            if self._loss is None or self._loss.where != way:
                return False
            self._loss.skip -= 1
            if self._loss.skip >= 0:
                return False
            self._loss = None
            self.lost += 1
            return True


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(_POLL)
    return listener


def _close(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _startup(stream: IO[bytes], client: socket.socket) -> bytes:
    """The first message of a connection, which has no type; wishes for encryption are declined before."""
    while True:
        length = stream.read(4)
        rest = stream.read(int.from_bytes(length, "big") - 4) if length else b""
        if int.from_bytes(rest[:4], "big") not in _ENCRYPTION_REQUESTS:
            return length + rest
        client.sendall(b"N")


def _messages(stream: IO[bytes]) -> Iterator[bytes]:
    """Each message after the first, whole: type (1 byte), length of the rest (4), content."""
    while len(head := stream.read(5)) == 5:
        yield head + stream.read(int.from_bytes(head[1:], "big") - 4)
