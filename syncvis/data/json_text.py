"""Bytes that should be JSON: turned into text, scanned and parsed; what is wrong has one name in every reader."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from syncvis.content import HEAD, content_of
from syncvis.errors import DataError

_SPACE = re.compile(r"[ \t\n\r]*+")
# A string (to the end of the text if it is not closed: nothing is scanned twice) or a bracket.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
DECODER = json.JSONDecoder()


def loads(content: bytes, source: Path) -> Any:
    """A whole JSON text at once, as ``json.loads``, but no name may stand in its outermost object twice.

    Raises:
        DataError: It is not JSON, or there is such a name.
    """
    text = text_of(content, source)
    with named_errors(source):
        position = space(text, 0)
        if not text.startswith("{", position):
            return json.loads(text)
        tree: dict[str, Any] = {}
        position = space(text, position + 1)
        while (member := next_member(text, position, tree)) is not None:
            tree[member[0]], position = DECODER.raw_decode(text, member[1])
            position = space(text, position)
        return tree


def text_of(content: bytes, source: Path) -> str:
    """The text of a JSON file, in any encoding that JSON may have.

    Raises:
        DataError: The file is of another kind (an archive, a web page), or a byte is not of the encoding.
    """
    refuse_other_content(content[:HEAD], source)
    try:
        return content.decode(json.detect_encoding(content), "surrogatepass")
    except UnicodeDecodeError as error:
        raise no_text(error, len(content) - len(error.object), source) from None  # a byte order mark is not counted


def refuse_other_content(head: bytes, source: Path) -> None:
    """Raises DataError if the first bytes of a file are not those of a text, see :mod:`syncvis.content`."""
    if kind := content_of(head):
        problem = f"is {kind.name}" if ", not " in kind.name else f"is {kind.name}, not JSON"
        raise DataError(problem, file=source, fix=kind.fix)


def no_text(error: UnicodeDecodeError, before: int, source: Path) -> DataError:
    """What the user is told of a byte that is not of its encoding; ``before``: bytes in front of those of the error."""
    value, name = error.object[error.start], error.encoding.upper()
    problem = f"not valid JSON text (the byte at position {before + error.start}, 0x{value:02x}, is not {name})"
    return DataError(problem, file=source, fix="write the file as UTF-8, or copy it again")


@contextlib.contextmanager
def named_errors(source: Path) -> Iterator[None]:
    """Faults of parsing as DataErrors that name the place."""
    try:
        yield
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        fix = "correct the JSON there, or copy the file again"
        raise DataError(f"not valid JSON ({error.msg})", file=source, key=place, fix=fix) from None
    except (ValueError, RecursionError) as error:  # a number of over 4,300 digits
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]
        raise DataError(f"not valid JSON text ({problem})", file=source, fix="copy the file again") from None


def space(text: str, position: int) -> int:
    """The place after white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def after_element(text: str, position: int) -> tuple[int, bool]:
    """The place after the comma or bracket that follows an element, and whether another element follows."""
    more = text.startswith(",", position)
    if not more and not text.startswith("]", position):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    position = space(text, position + 1)
    if more and text.startswith((",", "]", "}"), position):
        raise json.JSONDecodeError("Expecting value", text, position)
    return position, more


def next_member(text: str, position: int, known: Mapping[str, Any]) -> tuple[str, int] | None:
    """Name and start of the value of the object's next member; None at the end of the object and the text."""
    if text.startswith("}", position):
        if space(text, position + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, space(text, position + 1))
        return None
    if known and not text.startswith(",", position):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    name, position = _name(text, space(text, position + bool(known)))
    if name in known:
        raise json.JSONDecodeError(f"The name {name!r} occurs twice", text, position)
    return name, space(text, position)


def _name(text: str, position: int) -> tuple[str, int]:
    """A member's name and the place after its colon."""
    if not text.startswith('"', position):
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, position)
    name, position = DECODER.raw_decode(text, position)
    position = space(text, position)
    if not text.startswith(":", position):
        raise json.JSONDecodeError("Expecting ':' delimiter", text, position)
    return name, position + 1


def skip(text: str, position: int) -> int:
    """The place after a value; the inside of lists and objects is not checked."""
    if not text.startswith(("[", "{"), position):
        return DECODER.raw_decode(text, position)[1]
    depth = 0
    for token in _TOKEN.finditer(text, position):
        first = text[token.start()]
        depth += (first in "[{") - (first in "]}")
        if not depth:
            return token.end()
    raise json.JSONDecodeError("Unclosed list or object", text, position)
