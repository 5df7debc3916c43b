"""Reading ``run-*.wandb``: records of protobuf in the framing of LevelDB's log.

Blocks of 32 KiB hold fragments: checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD, _FILE_HEAD = 32768, 7, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def payloads(data: bytes) -> Iterator[bytes]:
    """The records of a file up to the first that is torn."""
    at, parts = _FILE_HEAD, b""
    while at + _HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        at += _HEAD
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or at + length > len(data):
            return
        parts = data[at : at + length] if kind in (_WHOLE, _FIRST) else parts + data[at : at + length]
        at += length
        if kind in (_WHOLE, _LAST):
            yield parts


def records(path: Path) -> Iterator[Any]:
    """The ``wandb_internal_pb2.Record`` of a file."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    for payload in payloads(path.read_bytes()):
        yield messages.Record.FromString(payload)


def steps_and_end(path: Path) -> tuple[list[int], int | None]:
    """The steps of the history rows in their order, and the exit code; None if the run has not ended."""
    steps, end = [], None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            steps.append(record.history.step.num)
        elif kind == "exit":
            end = record.exit.exit_code
    return steps, end
