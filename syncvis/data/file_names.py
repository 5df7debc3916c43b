"""What the names of files tell: their natural order, which are hidden, and which are one file on some machines."""

from __future__ import annotations

import posixpath
import re
import unicodedata

_NUMBER = re.compile(r"([0-9]{1,18})")
_HIDDEN = {"thumbs.db", "desktop.ini"}


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 9.jpg before 10.jpg."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]


def is_hidden(name: str) -> bool:
    """Whether a file is one that a desktop keeps for itself, such as .DS_Store, ._1.jpg or Thumbs.db."""
    return name.startswith(".") or name.lower() in _HIDDEN


def one_spelling(name: str) -> str:
    """The same text for all names of one file, on Windows and macOS too: with ``./``, in other case, accents apart."""
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/"))).casefold()
