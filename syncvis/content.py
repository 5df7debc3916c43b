"""What a file is by its first bytes, whatever its name says: for errors that name the real trouble."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

HEAD = 512
"""Bytes that tell."""


@dataclass(frozen=True)
class Content:
    """A kind of file.

    Attributes:
        name: in words, to stand behind "is": "a gzip archive".
        fix: what to do to get at what was meant.
    """

    name: str
    fix: str


EMPTY = Content("an empty file", "copy or download the file again: nothing of it arrived")
LFS_POINTER = Content(
    "a Git LFS pointer, not the file itself", "get the file with `git lfs pull`, or download it from the publisher"
)
HTML = Content("an HTML page", "open it in a browser: it says why the download gave a page instead of the file")

_UNPACK = "unpack it, and give the file inside"
_BY_MAGIC = (
    (b"\x1f\x8b", Content("a gzip archive", f"{_UNPACK} (gunzip)")),
    (b"PK\x03\x04", Content("a zip archive", f"{_UNPACK} (unzip)")),
    (b"PK\x05\x06", Content("an empty zip archive", "pack or download it again")),
    (b"BZh", Content("a bzip2 archive", f"{_UNPACK} (bunzip2)")),
    (b"\xfd7zXZ\x00", Content("an xz archive", f"{_UNPACK} (unxz)")),
    (b"\x28\xb5\x2f\xfd", Content("a zstd archive", f"{_UNPACK} (unzstd)")),
    (b"7z\xbc\xaf\x27\x1c", Content("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Content("a RAR archive", _UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Content("an HDF5 file", "export what is in it to the format asked for")),
    (b"\x93NUMPY", Content("a NumPy array", "export what is in it to the format asked for")),
    (b"PAR1", Content("a Parquet file", "export what is in it to the format asked for")),
    (b"\x80", Content("a Python pickle", "export what is in it to the format asked for; pickles are not opened here")),
    (b"%PDF", Content("a PDF", "give the file that was meant")),
    (b"\xff\xd8\xff", Content("a JPEG image", "give the file that was meant")),
    (b"\x89PNG\r\n\x1a\n", Content("a PNG image", "give the file that was meant")),
    (b"version https://git-lfs.github.com/spec/", LFS_POINTER),
)
_TAR = Content("a tar archive", f"{_UNPACK} (tar -xf)")
_XML = Content("an XML file", "export the labels as JSON; XML is not read here")


def content_of(head: bytes) -> Content | None:
    """The kind that the first :data:`HEAD` bytes of a file tell; None for JSON, other text and whatever is not known.

    A pickle is known from protocol 2 on.
    """
    if not head:
        return EMPTY
    for magic, content in _BY_MAGIC:
        if head.startswith(magic) and (magic != b"\x80" or head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
            return content
    if head[257:262] == b"ustar":
        return _TAR
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return HTML
    if text.startswith(b"<?xml"):
        return HTML if b"<html" in text else _XML
    return HTML if text.startswith(b"<head") else None


def content_of_file(path: Path) -> Content | None:
    """:func:`content_of` a file; None if it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return content_of(stream.read(HEAD))
    return None
