"""JSON objects of any size, parsed part by part; whatever is wrong is named by its file, key and fix."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from syncvis.data.formats import recognise
from syncvis.data.json_text import DECODER, after_element, named_errors, next_member, skip, space, text_of
from syncvis.errors import DataError

Kind = TypeVar("Kind")
Json = Mapping[str, Any]

MAX_BYTES = 16 * 2**30
MAX_INT = 2**63 - 1
SAMPLED = 20
"""Entries of a list that tell its format."""
WHOLE = "a whole number"
NEAR = 0.7
"""How much two names of keys have in common (difflib) before one is taken for the other's misspelling."""

NEAR_LIST = 0.9
"""The same of a list that may be missing: what it holds would be lost without a word."""


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
        self._text = text_of(content, source)
        del content
        start = space(self._text, 0)
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
        """Whether a list is missing or null.

        Raises:
            DataError: It is missing, but a list of nearly this name is there.
        """
        start = self._find(name)
        if start is None:
            refuse_mislaid(name, filter(self._is_filled_list, self._starts), self.source)
        return start is None or self._text.startswith("null", start)

    def _is_filled_list(self, name: str) -> bool:
        start = self._starts[name]
        return self._text.startswith("[", start) and not self._text.startswith("]", space(self._text, start + 1))

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Inside, members are read; in the end what nobody has asked for is checked, as by :meth:`finish`.

        Damage of the JSON itself is named before whatever is wrong with a part of it, as where it is parsed at once.
        """
        try:
            yield
        except DataError:
            self.finish()
            raise
        self.finish()

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
            raise missing(name, self._starts, self.source, name)
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
        with named_errors(self.source):
            position = skip(text, self._position) if self._in_value else self._position
            member = next_member(text, space(text, position), self._starts)
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
        with named_errors(self.source):
            return DECODER.raw_decode(self._text, start)[0]

    def _elements(self, start: int) -> Iterator[Any]:
        text, position = self._text, space(self._text, start + 1)
        if text.startswith("]", position):
            return self._pass(start, position + 1)
        while True:
            with named_errors(self.source):
                value, position = DECODER.raw_decode(text, position)
                position, more = after_element(text, space(text, position))
            yield value
            if not more:
                return self._pass(start, position)


def _read_bytes(source: Path) -> bytes:
    fix = "correct the folder, or the name of the JSON file in it"
    try:
        if source.exists() and not source.is_file():
            raise DataError("cannot be read (it is not a file)", file=source, fix=fix)
        if source.stat().st_size > MAX_BYTES:
            raise DataError(f"is over the limit of {MAX_BYTES} bytes", file=source, fix="split the data set")
        return source.read_bytes()
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise DataError(problem, file=source, fix=fix) from None


def get(entry: Json, name: str, kind: type[Kind], source: Path, key: str) -> Kind:
    """A value that has to be there and of one kind.

    Raises:
        DataError: It is missing, of another kind, or a number over 64 bits.
    """
    place = f"{key}.{name}"
    if name not in entry:
        raise missing(name, entry, source, place)
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        problem, meant = misfit(value, _NAMES[kind])
        fix = f"write {WHOLE}" if kind is int else "use YouTube-VIS format"
        fix = f"write {meant}, or mend the file with `syncvis data check --fix`" if meant else fix
        raise DataError(problem, file=source, key=place, fix=fix)
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise DataError("the number is too large", file=source, key=place, fix="use a number below 2**63")
    return value


def missing(name: str, known: Iterable[str], source: Path, key: str) -> DataError:
    """The error of a key that is not there; one of nearly the same name is told."""
    other = near(name, known)
    fix = f"name it {name!r}" if other else f"add {name!r}"
    return DataError(f"the key is missing{other}", file=source, key=key, fix=fix)


def near(name: str, known: Iterable[str]) -> str:
    """`` (there is 'segmentation')`` if a known key has nearly this name, else ""."""
    found = _nearest(name, known, NEAR)
    return "" if found is None else f" (there is {found!r:.60})"


def mislaid(name: str, lists: Iterable[str]) -> str | None:
    """Of the names of lists with entries, the one that must be meant by a name that is missing."""
    return _nearest(name, lists, NEAR_LIST)


def refuse_mislaid(name: str, lists: Iterable[str], source: Path) -> None:
    """Raise DataError where a list is missing, and :func:`mislaid` tells how it is called in the file."""
    if (other := mislaid(name, lists)) is not None:
        problem = f"the key is missing (there is {other!r:.60})"
        raise DataError(problem, file=source, key=name, fix=f"name it {name!r}")


def _nearest(name: str, known: Iterable[str], least: float) -> str | None:
    plain = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name, plain, 1, least)
    return plain[found[0]] if found else None


def misfit(value: Any, wanted: str) -> tuple[str, str]:
    """What is wrong with a value that is not ``wanted``, and what stands for a number that is clearly meant, or ""."""
    whole = wanted == WHOLE
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number", ""
    if type(value) is int and "number" in wanted:
        return "the number is too large", ""
    if isinstance(value, float) and whole and value.is_integer() and abs(value) <= MAX_INT:
        return f"{value!r} is not written as a whole number", str(int(value))
    if isinstance(value, str):
        clear = "number" in wanted and (_WHOLE if whole else _NUMBER).fullmatch(value.strip())
        return f"is text, not {wanted}: {value!r:.40}", value.strip() if clear else ""
    return f"is {kind_name(value)}, not {wanted}", ""


_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?")

_NAMES: dict[type, str] = {
    int: WHOLE,
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
