"""The bytes of a results file, which may lie in a zip, as evaluation servers take it, or be gzipped."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from syncvis.content import GZIP, HEAD, ZIP, content_of
from syncvis.errors import DataError

# An archive may promise that much, or that many times its own size.
_MAX_INFLATED, _MAX_RATIO = 2**28, 100
_WANTED = "evaluation servers take a zip with results.json at its top"


class Readable(Protocol):
    """What gives bytes in order."""

    def read(self, size: int, /) -> bytes: ...


@contextmanager
def opened(path: Path, remarks: list[str]) -> Iterator[Readable]:
    """A results file, or the one in an archive, to be read; the name's ending plays no part.

    Args:
        remarks: takes what an evaluation server would not accept.

    Raises:
        DataError: The archive is damaged, or does not hold one file of results.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        kind = content_of(file.read(HEAD))
        file.seek(0)
        if (kind is ZIP) != (path.suffix.lower() == ".zip") and kind is not GZIP:
            is_what = "is a zip archive, though not" if kind is ZIP else "is no zip archive, though"
            remarks.append(f"{path.name} {is_what} named like one")
        if kind is ZIP:
            with _unzipped(file, path, remarks) as stream:
                yield stream
        elif kind is GZIP:
            remarks.append(f"{path.name} is a gzip archive: {_WANTED}")
            with _gunzipped(file, path) as stream:
                yield stream
        else:
            yield file


@contextmanager
def _unzipped(file: IO[bytes], path: Path, remarks: list[str]) -> Iterator[Readable]:
    try:
        with zipfile.ZipFile(file) as archive:
            info = _results_in(archive, path)
            if info.filename != "results.json":
                remarks.append(f"{path.name} holds {info.filename!r}: {_WANTED}")
            with archive.open(info) as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"is a damaged zip ({error})", file=path, fix="write the file again") from None


def _results_in(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The only file, or the only JSON file, apart from what macOS adds."""
    files = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    found = files if len(files) == 1 else [info for info in files if info.filename.lower().endswith(".json")]
    if len(found) != 1:
        names = [info.filename for info in found or files]
        shown = ", ".join([*map(repr, names[:3]), *(["..."] if len(names) > 3 else [])])
        what = f"has {len(found)} JSON files, not one{': ' if shown else ''}{shown}"
        raise DataError(what, file=path, fix="put one results.json into it")
    (info,) = found
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError("is encrypted, or compressed in a rare way", file=path, fix="zip the results.json again")
    if info.file_size > max(_MAX_INFLATED, _MAX_RATIO * info.compress_size):
        problem = f"has {info.file_size} bytes in {info.compress_size} compressed ones"
        raise DataError(problem, file=path, key=info.filename, fix="unpack it, and give the results.json")
    return info


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts[-1:])


@contextmanager
def _gunzipped(file: IO[bytes], path: Path) -> Iterator[Readable]:
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            yield _Bounded(stream, max(_MAX_INFLATED, _MAX_RATIO * path.stat().st_size), path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"is a damaged gzip archive ({error})", file=path, fix="write the file again") from None


class _Bounded:
    """Bytes that may be so many and not more: a small archive can hold any number."""

    def __init__(self, stream: Readable, most: int, path: Path) -> None:
        self._stream, self._most, self._left, self._path = stream, most, most, path

    def read(self, size: int, /) -> bytes:
        part = self._stream.read(size)
        self._left -= len(part)
        if self._left < 0:
            problem = f"has over {self._most} bytes in {self._path.stat().st_size} compressed ones"
            raise DataError(problem, file=self._path, fix="unpack it, and give the results.json")
        return part
