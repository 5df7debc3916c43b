"""JSON objects of any size, parsed part by part; whatever is wrong is named by its file, key and fix."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from syncvis.data.formats import recognise
from syncvis.errors import DataError

Kind = TypeVar("Kind")
Json = Mapping[str, Any]

MAX_BYTES = 16 * 2**30
MAX_INT = 2**63 - 1
SAMPLED = 20
"""Entries of a list that tell its format."""

_SPACE = re.compile(r"[ \t\n\r]*+")
# A string (to the end of the text if it is not closed: nothing is scanned twice) or a bracket.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_DECODER = json.JSONDecoder()


class JsonFile:
    """A file that holds one JSON object.

    Its members are parsed when they are asked for and lists element by element, so that an annotation file is never
    in memory as Python objects. What nobody asks for is not parsed.

    Attributes:
        fingerprint: identity of the content, 16 hex digits.

    Raises:
        DataError: The file cannot be read or is not a JSON object.
    """

    def __init__(self, source: Path) -> None:
        content = _read_bytes(source)
        self.source, self.fingerprint = source, hashlib.sha256(content).hexdigest()[:16]
        with self._named_errors():
            self._text = content.decode(json.detect_encoding(content), "surrogatepass")
        del content
        start = _space(self._text, 0)
        if not self._text.startswith("{", start):
            value = self._parse(start)
            if known := recognise(value):
                raise DataError(f"is {known.name}", file=source, fix=known.fix)
            problem = f"holds {kind_name(value)}, not an object with videos and categories"
            raise DataError(problem, file=source, fix="use a file in YouTube-VIS format")
        self._starts: dict[str, int] = {}
        # Where to look for the next member, and whether the value of the last one stands before that.
        self._position, self._in_value = start + 1, False

    def is_absent(self, name: str) -> bool:
        """Whether a member is missing or null."""
        start = self._find(name)
        return start is None or self._text.startswith("null", start)

    def finish(self) -> None:
        """Check what nobody has asked for: whether the object is closed, with no name twice and nothing behind it."""
        while self._advance():
            pass

    def sample(self) -> dict[str, Any]:
        """The members as far as they can be parsed, of a list only the first entries: to recognise a foreign format."""
        sample: dict[str, Any] = {}
        with contextlib.suppress(DataError):
            self.finish()
        for name, start in self._starts.items():
            with contextlib.suppress(DataError):
                is_list = self._text.startswith("[", start)
                sample[name] = list(islice(self._elements(start), SAMPLED)) if is_list else self._parse(start)
        return sample

    def objects(self, name: str) -> Iterator[tuple[str, Json]]:
        """The objects of a member that is a list, each with its key such as ``videos[3]``.

        Raises:
            DataError: The member is missing, no list, or has something else than objects; the JSON is broken.
        """
        start = self._find(name)
        if start is None:
            raise DataError("the key is missing", file=self.source, key=name, fix=f"add {name!r}")
        if not self._text.startswith("[", start):
            problem = f"is {kind_name(self._parse(start))}, not a list"
            raise DataError(problem, file=self.source, key=name, fix="use YouTube-VIS format")
        for index, entry in enumerate(self._elements(start)):
            key = f"{name}[{index}]"
            if not isinstance(entry, dict):
                problem = f"is {kind_name(entry)}, not an object"
                raise DataError(problem, file=self.source, key=key, fix="use YouTube-VIS format")
            yield key, entry

    def _find(self, name: str) -> int | None:
        """Where the value of a member starts; members behind it are not looked at yet."""
        while name not in self._starts and self._advance():
            pass
        return self._starts.get(name)

    def _advance(self) -> bool:
        """Find the next member, or the end."""
        text = self._text
        with self._named_errors():
            position = _skip(text, self._position) if self._in_value else self._position
            member = _next_member(text, _space(text, position), self._starts)
        if member is None:
            return False
        name, self._position = member
        self._starts[name], self._in_value = self._position, True
        return True

    def _pass(self, start: int, end: int) -> None:
        """Remember where a value ends, so that it need not be skipped."""
        if self._in_value and self._position == start:
            self._position, self._in_value = end, False

    def _parse(self, start: int) -> Any:
        with self._named_errors():
            return _DECODER.raw_decode(self._text, start)[0]

    def _elements(self, start: int) -> Iterator[Any]:
        text, position = self._text, _space(self._text, start + 1)
        if text.startswith("]", position):
            return self._pass(start, position + 1)
        while True:
            with self._named_errors():
                value, position = _DECODER.raw_decode(text, position)
                position, more = _after_element(text, _space(text, position))
            yield value
            if not more:
                return self._pass(start, position)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            fix = "correct the JSON there, or copy the file again"
            raise DataError(f"not valid JSON ({error.msg})", file=self.source, key=place, fix=fix) from None
        except (ValueError, RecursionError) as error:  # also text that is no Unicode and numbers of 4,300 digits
            problem = f"not valid JSON text ({type(error).__name__})"
            raise DataError(problem, file=self.source, fix="copy the file again") from None


def loads(content: bytes) -> Any:
    """A whole JSON text at once, as ``json.loads``, but no name may stand in its outermost object twice.

    Raises:
        ValueError: It is not JSON, or there is such a name.
        RecursionError: It is nested too deeply.
    """
    text = content.decode(json.detect_encoding(content), "surrogatepass")
    position = _space(text, 0)
    if not text.startswith("{", position):
        return json.loads(text)
    tree: dict[str, Any] = {}
    position = _space(text, position + 1)
    while (member := _next_member(text, position, tree)) is not None:
        tree[member[0]], position = _DECODER.raw_decode(text, member[1])
        position = _space(text, position)
    return tree


def _read_bytes(source: Path) -> bytes:
    fix = "correct data.root and the JSON's name, or create the data set first"
    try:
        if source.exists() and not source.is_file():
            raise DataError("cannot be read (it is not a file)", file=source, fix=fix)
        if source.stat().st_size > MAX_BYTES:
            raise DataError(f"is over the limit of {MAX_BYTES} bytes", file=source, fix="split the data set")
        return source.read_bytes()
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise DataError(problem, file=source, fix=fix) from None


def _space(text: str, position: int) -> int:
    """The place after white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _after_element(text: str, position: int) -> tuple[int, bool]:
    """The place after the comma or bracket that follows an element, and whether another element follows."""
    more = text.startswith(",", position)
    if not more and not text.startswith("]", position):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    position = _space(text, position + 1)
    if more and text.startswith((",", "]", "}"), position):
        raise json.JSONDecodeError("Expecting value", text, position)
    return position, more


def _next_member(text: str, position: int, known: Mapping[str, Any]) -> tuple[str, int] | None:
    """Name and start of the value of the object's next member; None at the end of the object and the text."""
    if text.startswith("}", position):
        if _space(text, position + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, _space(text, position + 1))
        return None
    if known and not text.startswith(",", position):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    name, position = _name(text, _space(text, position + bool(known)))
    if name in known:
        raise json.JSONDecodeError(f"The name {name!r} occurs twice", text, position)
    return name, _space(text, position)


def _name(text: str, position: int) -> tuple[str, int]:
    """A member's name and the place after its colon."""
    if not text.startswith('"', position):
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, position)
    name, position = _DECODER.raw_decode(text, position)
    position = _space(text, position)
    if not text.startswith(":", position):
        raise json.JSONDecodeError("Expecting ':' delimiter", text, position)
    return name, position + 1


def _skip(text: str, position: int) -> int:
    """The place after a value; the inside of lists and objects is not checked."""
    if not text.startswith(("[", "{"), position):
        return _DECODER.raw_decode(text, position)[1]
    depth = 0
    for token in _TOKEN.finditer(text, position):
        first = text[token.start()]
        depth += (first in "[{") - (first in "]}")
        if not depth:
            return token.end()
    raise json.JSONDecodeError("Unclosed list or object", text, position)


def get(entry: Json, name: str, kind: type[Kind], source: Path, key: str) -> Kind:
    """A value that has to be there and of one kind.

    Raises:
        DataError: It is missing, of another kind, or a number over 64 bits.
    """
    place = f"{key}.{name}"
    if name not in entry:
        raise DataError("the key is missing", file=source, key=place, fix=f"add {name!r}")
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = f"is {kind_name(value)}, not {_NAMES[kind]}"
        raise DataError(problem, file=source, key=place, fix="use YouTube-VIS format")
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise DataError("the number is too large", file=source, key=place, fix="use a number below 2**63")
    return value


_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number with a fraction",
    str: "text",
    list: "a list",
    dict: "an object",
    bool: "true or false",
    type(None): "null",
}


def kind_name(value: Any) -> str:
    """What a JSON value is, in words."""
    return _NAMES[type(value)]
