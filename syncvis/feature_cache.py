"""Features of single frames in files of one folder that any number of processes share: bounded, and checked when read.

An entry is named by a key that says all that it depends on, so that equal keys mean equal bits, whoever wrote them.
A file that is damaged, or that another program left there, is not used and is written anew. Nothing here ever ends a
run: what cannot be read or written is computed, and counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from syncvis.files import FULL, remove_litter, require_writable

SUFFIX = ".features"
KEPT_FREE = 2**30
"""Bytes of a disk that are left to others, such as the checkpoints of the runs that fill the cache."""
RECOUNTS = 64
"""How often, until the bound is reached, a process looks at what the others have written."""

_PREFIX = struct.Struct("<8sII")  # magic, CRC-32 of all that follows it, length of the header
_SUMMED = 12
_MAGIC = b"syncvis1"
_ALIGNED = 64

_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the frames that were asked for, and the bytes read and written.

    Attributes:
        hits: frames that were read.
        misses: frames that were computed; ``damaged`` of them because their file was not whole.
        refused: frames that were computed and not kept, since the cache or its disk is full.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    refused: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class FeatureCache:
    """Tensors by key.

    Nothing is thrown out: epochs visit every frame equally often, and a cache that replaced its oldest entries would
    not be hit any more. Several processes that write at once may exceed the bound by 1/64 each.

    Args:
        folder: made if it is not there; removing it, or a part of it, at any time costs time only.
        limit: bytes that all entries of the folder may take.

    Raises:
        StorageError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit, self.counts = folder, limit, Counts()
        require_writable(folder)
        for shard in folder.iterdir():
            remove_litter(shard)
        self._size = self._unseen = 0
        self._open = True
        self._recount()

    def get(self, key: str) -> tuple[Tensor, ...] | None:
        """What was put under a key, bit for bit; None if nothing whole is there."""
        try:
            with self._path(key).open("rb", buffering=0) as stream:
                data = torch.empty(os.fstat(stream.fileno()).st_size, dtype=torch.uint8)
                length = stream.readinto(memoryview(data.numpy()))
        except OSError:
            self.counts.misses += 1
            return None
        found = _unpacked(key, data) if length == len(data) else None
        if found is None:
            self.counts.misses += 1
            self.counts.damaged += 1
            return None
        self.counts.hits += 1
        self.counts.bytes_read += len(data)
        return found

    def put(self, key: str, tensors: Sequence[Tensor]) -> None:
        """Keep tensors under a key, on whatever device they are, if there is room."""
        data = _packed(key, tensors)
        if not self._has_room(len(data)):
            self.counts.refused += 1
            return
        path = self._path(key)
        # Not flushed to the disk: an entry that a power cut left half written fails its check.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            self.counts.refused += 1
            with contextlib.suppress(OSError):
                temporary.unlink()
            if error.errno in FULL:
                self._close(os.strerror(error.errno).lower())
            return
        self.counts.bytes_written += len(data)
        self._size += len(data)
        self._unseen += len(data)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def _has_room(self, size: int) -> bool:
        if self._open and self._unseen > self.limit // RECOUNTS:
            self._recount()
        if self._open and self._size + size > self.limit:
            self._close(f"it has reached its bound of {self.limit / 2**30:.3g} GiB")
        return self._open

    def _recount(self) -> None:
        """Look at the folder and its disk as they are now."""
        self._size, self._unseen = sum(_sizes(self.folder)), 0
        if shutil.disk_usage(self.folder).free < KEPT_FREE:
            self._close(f"its disk has less than {KEPT_FREE / 2**30:.3g} GiB left")

    def _close(self, reason: str) -> None:
        if self._open:
            _log.warning("the feature cache %s takes no more frames: %s; others are computed", self.folder, reason)
        self._open = False


def _sizes(folder: Path) -> list[int]:
    """Of the entries, in bytes; others may remove them meanwhile."""
    found = []
    for shard in os.scandir(folder):
        with contextlib.suppress(OSError):
            found += [entry.stat().st_size for entry in os.scandir(shard) if entry.name.endswith(SUFFIX)]
    return found


def _packed(key: str, tensors: Sequence[Tensor]) -> bytes:
    """Prefix, header and the bytes of the tensors, each at a multiple of 64 from the start."""
    there = [x.detach().cpu().contiguous() for x in tensors]
    header = json.dumps({"key": key, "tensors": [[_name(x.dtype), list(x.shape)] for x in there]}).encode()
    header += b" " * (-(_PREFIX.size + len(header)) % _ALIGNED)
    parts = [header]
    for x in there:
        content = x.flatten().view(torch.uint8).numpy().tobytes()
        parts += [content, b"\0" * (-len(content) % _ALIGNED)]
    length, body = struct.pack("<I", len(header)), b"".join(parts)
    return b"".join([_MAGIC, struct.pack("<I", zlib.crc32(body, zlib.crc32(length))), length, body])


def _unpacked(key: str, data: Tensor) -> tuple[Tensor, ...] | None:
    """Views of the bytes of a file (uint8); None if they are not what was written under this key."""
    content = memoryview(data.numpy())
    if len(content) < _PREFIX.size:
        return None
    magic, summed, length = _PREFIX.unpack_from(content)
    if magic != _MAGIC or zlib.crc32(content[_SUMMED:]) != summed:
        return None
    header = json.loads(bytes(content[_PREFIX.size : _PREFIX.size + length]))
    if header["key"] != key:
        return None
    found, place = [], _PREFIX.size + length
    for name, shape in header["tensors"]:
        dtype: torch.dtype = getattr(torch, name)
        size = dtype.itemsize * torch.Size(shape).numel()
        found.append(data[place : place + size].view(dtype).view(shape))
        place += size + -size % _ALIGNED
    return tuple(found)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
