"""What may be told to others: no secret, no folder, no name of a user or host."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HIDDEN = "***"
_SECRET = re.compile(r"key|token|passw|secret|credential|auth|dsn|cookie|private", re.IGNORECASE)
_PATH = re.compile(r"[^\s'\"=,;()\[\]{}]*[/\\][^\s'\"=,;()\[\]{}]*")
_USERS = ("USER", "LOGNAME", "USERNAME", "HOME")
_SHORTEST_SECRET, _SHORTEST_NAME = 6, 2
_EVERYBODY = {"root", ""}


class Public:
    """Takes private words out of texts and trees.

    Private are the values of environment variables whose names say so, the user's and the host's name. Of a path,
    only the last part stays: which data set it was, not where.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ):
        secrets = {value for name, value in environ.items() if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET}
        names = {Path(environ.get(name, "")).name for name in _USERS} | {socket.gethostname()}
        words = [re.escape(secret) for secret in sorted(secrets, key=len, reverse=True)]
        words += [rf"\b{re.escape(n)}\b" for n in names - _EVERYBODY if len(n) >= _SHORTEST_NAME]
        self._private = re.compile("|".join(words)) if words else None

    def text(self, text: str) -> str:
        """Free text, such as an error: every path in it becomes its last part."""
        return self._hidden(_PATH.sub(lambda match: _last_part(match[0]), self._hidden(text)))

    def value(self, value: Any) -> Any:
        """A value of a config: a string with a separator is one path, which may hold blanks."""
        return self._hidden(_last_part(value)) if isinstance(value, str) else value

    def tree(self, tree: Any) -> Any:
        """JSON data with every string in it treated as a value."""
        if isinstance(tree, Mapping):
            return {key: self.tree(value) for key, value in tree.items()}
        if isinstance(tree, list | tuple):
            return [self.tree(value) for value in tree]
        return self.value(tree)

    def _hidden(self, text: str) -> str:
        return self._private.sub(HIDDEN, text) if self._private else text


def _last_part(path: str) -> str:
    """Of "/data/ytvis/" or "..\\ytvis" just "ytvis"; a text without separators stays."""
    if path.startswith("~") and not re.search(r"[/\\]", path):
        return HIDDEN
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else path.strip("/\\.~")
