"""A JSON list, element by element: the text of a large file is never held as a whole."""

from __future__ import annotations

import gc
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOBase, TextIOWrapper
from pathlib import Path
from typing import Any

from syncvis.errors import DataError, StorageError

_CHUNK = 2**18  # characters
_SPACE = re.compile(r"[ \t\n\r]*")
_BEHIND = ",] \t\n\r"
# A zip may promise that much, or that many times its own size.
_MAX_INFLATED, _MAX_RATIO = 2**28, 100
_DECODER = json.JSONDecoder()


def json_rows(path: Path) -> Iterator[Any]:
    """The elements of the list in a file, or in the only JSON file of a zip as evaluation servers take it.

    Raises:
        DataError: The file is not JSON, or not a list.
        StorageError: The file cannot be read.
    """
    try:
        with _opened(path) as stream:
            yield from _elements(_Text(stream), path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise StorageError(problem, file=path, fix="give the path of a results.json") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file=path, fix="write the file again") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIOBase]:
    if path.suffix.lower() != ".zip":
        with path.open(encoding="utf-8", newline="") as text:
            yield text
        return
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(_only_json(archive, path)) as stream,
            TextIOWrapper(stream, encoding="utf-8", newline="") as text,
        ):
            yield text
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"is a damaged zip ({error})", file=path, fix="write the file again") from None


def _only_json(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename.endswith(".json")]
    if len(found) != 1:
        raise DataError(f"has {len(found)} JSON files, not one", file=path, fix="put one results.json into it")
    (info,) = found
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError("is encrypted, or compressed in a rare way", file=path, fix="zip the results.json again")
    if info.file_size > max(_MAX_INFLATED, _MAX_RATIO * info.compress_size):
        problem = f"has {info.file_size} bytes in {info.compress_size} compressed ones"
        raise DataError(problem, file=path, key=info.filename, fix="unpack it, and give the results.json")
    return info


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
    text.skip(text.next() == "\ufeff")  # a byte order mark
    if text.next() != "[":
        text.element()
        raise DataError("is not a list of rows", file=path, fix="give a results.json with one row a track")
    text.skip()
    last = "]" if text.next() == "]" else ","
    while last == ",":
        yield text.element()
        last = text.next()
        if last not in ("]", ","):
            raise ValueError("',' or ']' is missing behind a row")
        text.skip(last == ",")
    text.skip()
    if text.next():
        raise ValueError("there is text behind the list")


class _Text:
    """A part of a file and the place in it."""

    def __init__(self, stream: TextIOBase) -> None:
        self._stream, self._part, self._place = stream, "", 0
        self._longest = 0

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
                value, end = _DECODER.raw_decode(self._part, self._place)
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

    def _read(self, characters: int) -> bool:
        """Forget what is taken and read on."""
        more = self._stream.read(characters)
        self._part, self._place = self._part[self._place :] + more, 0
        return bool(more)
