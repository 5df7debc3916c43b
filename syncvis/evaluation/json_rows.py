"""A JSON list, element by element: the text of a large file is never held as a whole."""

from __future__ import annotations

import codecs
import gc
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syncvis.content import HEAD
from syncvis.data.formats import recognise_results, recognise_text
from syncvis.data.json_text import DECODER, no_text, refuse_other_content
from syncvis.errors import DataError, StorageError
from syncvis.evaluation.packed import Readable, opened

_CHUNK = 2**18  # bytes
_SPACE = re.compile(r"[ \t\n\r]*")
_BEHIND = ",] \t\n\r"


def json_rows(path: Path, remarks: list[str] | None = None) -> Iterator[Any]:
    """The elements of the list in a file, or in the only file of a zip as evaluation servers take it.

    Args:
        remarks: takes what an evaluation server would not accept.

    Raises:
        DataError: The file is not JSON, or not a list.
        StorageError: The file cannot be read.
    """
    try:
        with opened(path, [] if remarks is None else remarks) as stream:
            yield from _elements(_Text(stream, path), path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise StorageError(problem, file=path, fix="give the path of a results.json") from None


@contextmanager
def no_collection() -> Iterator[None]:
    """Many objects without cycles are made: the search for cycles would take longer than reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _elements(text: _Text, path: Path) -> Iterator[Any]:
    number = 0
    try:
        if text.next() != "[":
            raise _no_list(text, path)
        text.skip()
        last = "]" if text.next() == "]" else ","
        while last == ",":
            yield text.element()
            number += 1
            last = text.next()
            if last not in ("]", ","):
                raise ValueError("',' or ']' is missing behind a row")
            text.skip(last == ",")
        text.skip()
        if text.next():
            raise ValueError("there is text behind the list")
    except RecursionError:
        raise _no_json("nested too deeply", number, path) from None
    except json.JSONDecodeError as error:
        raise _no_json(f"{error.msg} at character {text.before + error.pos}", number, path) from None
    except ValueError as error:
        raise _no_json(str(error)[:80], number, path) from None


def _no_json(problem: str, number: int, path: Path) -> DataError:
    return DataError(f"not valid JSON ({problem})", file=path, key=f"row {number}", fix="write the file again")


def _no_list(text: _Text, path: Path) -> DataError:
    """What a file is that does not begin with a bracket; raises ValueError if it is no JSON either."""
    known = recognise_text(text.line())
    if known is None:
        known = recognise_results(tree := text.element())
        if known is None and text.next() == "{" and isinstance(tree, dict):
            fix = "write the rows as one list: [row, row, ...]"
            return DataError("holds an object per line (JSON lines), not a list of rows", file=path, fix=fix)
    problem = "is not a list of rows" if known is None else f"is {known.name}"
    return DataError(problem, file=path, fix=known.fix if known else "give a results.json with one row a track")


class _Text:
    """A part of a file and the place in it.

    Attributes:
        before: characters in front of the part.
    """

    def __init__(self, stream: Readable, path: Path) -> None:
        self._stream, self._path = stream, path
        head = stream.read(HEAD)
        refuse_other_content(head, path)
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(head))("surrogatepass")
        self._bytes, self._ended, self.before = 0, False, 0
        self._part, self._place = self._decoded(head), 0
        self._longest = 0

    def line(self) -> str:
        """The beginning of the first line that is not empty; nothing is taken."""
        self.next()
        return self._part[self._place : self._place + HEAD]

    def next(self) -> str:
        """The next character that is not space, "" at the end; it is not taken."""
        while True:
            match = _SPACE.match(self._part, self._place)
            assert match is not None
            self._place = match.end()
            if self._place < len(self._part) or not self._read(_CHUNK):
                return self._part[self._place : self._place + 1]

    def skip(self, really: bool = True) -> None:
        """Take one character."""
        self._place += really

    def element(self) -> Any:
        """Take a whole value; the part grows twofold for as long as it is cut off."""
        self.next()
        if len(self._part) - self._place <= self._longest:
            self._read(_CHUNK)  # to try in vain takes longer
        while True:
            cut_off = None
            try:
                value, end = DECODER.raw_decode(self._part, self._place)
            except json.JSONDecodeError as error:
                cut_off, end = error, len(self._part)
            # A number may be cut in two.
            complete = self._part[end : end + 1] in _BEHIND and end < len(self._part)
            if complete or not self._read(max(_CHUNK, len(self._part) - self._place)):
                break
        if cut_off is not None:
            raise cut_off
        self._longest = max(self._longest, end - self._place)
        self._place = end
        return value

    def _read(self, size: int) -> bool:
        """Forget what is taken and read on."""
        while not self._ended:
            if more := self._decoded(self._stream.read(size)):
                self.before += self._place
                self._part, self._place = self._part[self._place :] + more, 0
                return True
        return False

    def _decoded(self, chunk: bytes) -> str:
        """The characters that are complete with the next bytes, none of which is the end."""
        self._ended = not chunk
        self._bytes += len(chunk)
        try:
            return self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise no_text(error, self._bytes - len(error.object), self._path) from None
