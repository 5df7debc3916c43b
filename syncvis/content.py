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


EXPORT = "export what is in it to the format asked for"

EMPTY = Content("an empty file", "copy or download the file again: nothing of it arrived")
LFS_POINTER = Content(
    "a Git LFS pointer, not the file itself", "get the file with `git lfs pull`, or download it from the publisher"
)
GZIP = Content("a gzip archive", "unpack it, and give the file inside (gunzip)")
HTML = Content("an HTML page", "open it in a browser: it says why the download gave a page instead of the file")
PICKLE = Content("a Python pickle", f"{EXPORT}; pickles are not opened here")
SAFETENSORS = Content("a safetensors file", "give the file that was meant; this one holds weights")
TORCH = Content("a torch file", "give the file that was meant; this one holds weights, or a model")
XML = Content("an XML file", "export the labels as JSON; XML is not read here")
ZIP = Content("a zip archive", "unpack it, and give the file inside (unzip)")

_UNPACK = "unpack it, and give the file inside"
_BY_MAGIC = (
    (b"\x1f\x8b", GZIP),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", Content("an empty zip archive", "pack or download it again")),
    (b"BZh", Content("a bzip2 archive", f"{_UNPACK} (bunzip2)")),
    (b"\xfd7zXZ\x00", Content("an xz archive", f"{_UNPACK} (unxz)")),
    (b"\x28\xb5\x2f\xfd", Content("a zstd archive", f"{_UNPACK} (unzstd)")),
    (b"7z\xbc\xaf\x27\x1c", Content("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Content("a RAR archive", _UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Content("an HDF5 file, as Keras and others write", EXPORT)),
    (b"\x93NUMPY", Content("a NumPy array", EXPORT)),
    (b"PAR1", Content("a Parquet file", EXPORT)),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", TORCH),
    (b"\x80", PICKLE),
    (b"GGUF", Content("a GGUF model", EXPORT)),
    (b"%PDF", Content("a PDF", "give the file that was meant")),
    (b"\xff\xd8\xff", Content("a JPEG image", "give the file that was meant")),
    (b"\x89PNG\r\n\x1a\n", Content("a PNG image", "give the file that was meant")),
    (b"version https://git-lfs.github.com/spec/", LFS_POINTER),
)
_TAR = Content("a tar archive", f"{_UNPACK} (tar -xf)")
_ONNX_PRODUCERS = (b"pytorch", b"onnx", b"tf2onnx", b"skl2onnx", b"keras2onnx", b"paddle")
_ONNX = Content("an ONNX model", EXPORT)
_TFLITE = Content("a TensorFlow Lite model", EXPORT)
_TAGS = (b"<html", b"<head", b"<body", b"<script")
_LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header."""


def content_of(head: bytes) -> Content | None:
    """The kind that the first :data:`HEAD` bytes of a file tell; None for JSON, other text and whatever is not known.

    A pickle is known from protocol 2 on.
    """
    if not head:
        return EMPTY
    for magic, content in _BY_MAGIC:
        if head.startswith(magic) and (magic != b"\x80" or head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
            return TORCH if content is ZIP and first_member(head).endswith(b"/data.pkl") else content
    if head[257:262] == b"ustar":
        return _TAR
    return _of_model(head) or _of_markup(head)


def first_member(head: bytes) -> bytes:
    """The name of the first file in a zip archive, as far as it is there."""
    return head[30 : 30 + int.from_bytes(head[26:28], "little")]


def _of_model(head: bytes) -> Content | None:
    """Formats of weights whose first bytes are a length or a version."""
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST_HEADER:
        return SAFETENSORS
    if head[4:8] == b"TFL3":
        return _TFLITE
    return _ONNX if head[:1] == b"\x08" and head[2:3] == b"\x12" and head[4:].startswith(_ONNX_PRODUCERS) else None


def _of_markup(head: bytes) -> Content | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<!doctype html") or (text.startswith(b"<") and any(tag in text for tag in _TAGS)):
        return HTML
    return XML if text.startswith(b"<?xml") else None


def content_of_file(path: Path) -> Content | None:
    """:func:`content_of` a file; None if it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return content_of(stream.read(HEAD))
    return None
