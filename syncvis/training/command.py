"""The command line of a process, without what must not leave the machine."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from syncvis.privacy import NAMES, SECRET

HIDDEN = "***"

_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"]+", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w./*-])(?:~[\w.-]*|\.\.)?(?:/[^/\s,;:=\[\](){}'\"]+)+/?")
_ASSIGNED = re.compile(r"^(-{0,2}[\w.-]+)=(.*)$", re.DOTALL)
_INNER = re.compile(rf"([\w.-]*(?:{NAMES})[\w.-]*\s*[=:]\s*)[^\s,;&]+", re.IGNORECASE)
_SHORTEST = 6
"""Characters of a name or secret that are looked for everywhere: shorter ones are parts of words."""


def public_command(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Words of a command, with the last part alone of a path, the scheme alone of a URL, and no secret.

    Secret are the values of options, keys and environment variables whose names say so; they, the name of this host
    and the home folder are taken out wherever they stand.
    """
    private = _private(environ)
    hidden, before = [], ""
    for word in words:
        hidden.append(HIDDEN if _names_secret(before) and not word.startswith("-") else _word(word, private))
        before = word
    return hidden


def _names_secret(word: str) -> bool:
    return word.startswith("-") and "=" not in word and bool(SECRET.search(word))


def _word(word: str, private: Sequence[str]) -> str:
    assigned = _ASSIGNED.match(word)
    if assigned is None:
        return _value(word, private)
    name, value = assigned[1], assigned[2]
    return f"{_value(name, private)}={HIDDEN if SECRET.search(name) else _value(value, private)}"


def _value(text: str, private: Sequence[str]) -> str:
    if text.startswith(("/", "~", "../")):
        text = PurePath(text).name
    text = _URL.sub(lambda m: f"{m[1]}://{HIDDEN}", text)
    text = _INNER.sub(lambda m: m[1] + HIDDEN, text)
    for name in private:
        text = text.replace(name, HIDDEN)
    return _PATH.sub(lambda m: PurePath(m[0]).name, text)


def _private(environ: Mapping[str, str]) -> list[str]:
    """Longest first, since one may hold another."""
    names = [value for name, value in environ.items() if SECRET.search(name)]
    names += [environ.get("HOME", ""), socket.gethostname()]
    return sorted((name for name in names if len(name) >= _SHORTEST), key=len, reverse=True)
