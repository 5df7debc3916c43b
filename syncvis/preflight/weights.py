"""A look at the initial weights: is there a file, and is it whole? What it holds is looked at with the model."""

from __future__ import annotations

import json
from pathlib import Path

from syncvis.content import content_of_file
from syncvis.errors import StorageError
from syncvis.preflight.findings import Problem

WHAT = "initial weights"
KEY = "train.init"
_MAX_HEADER = 100 * 2**20
"""As the format limits it."""


def look_at_weights(init: str | None) -> list[Problem]:
    """What is wrong with the file of ``train.init``."""
    if init is None:
        return []
    path = Path(init)
    if not path.exists():
        fix = f"syncvis weights import FILE CONFIG --out {init}, FILE as a recipe's part names it; or train.init=null"
        return [Problem(WHAT, StorageError("there is no such file", file=path, key=KEY, fix=fix), is_absent=True)]
    try:
        problem = None if path.is_file() else "is not a file"
        problem = problem or _problem(path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is None:
        return []
    content = content_of_file(path) if path.is_file() else None
    problem = f"is {content.name}" if content else problem
    fix = content.fix if content else "give the path of a whole safetensors file; `syncvis weights import` makes one"
    return [Problem(WHAT, StorageError(problem, file=path, key=KEY, fix=fix))]


def _problem(path: Path) -> str | None:
    """What is wrong with a safetensors file: 8 bytes with the size of a JSON header, the header, the tensors."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= header_size <= min(_MAX_HEADER, size - 8):
            return "is not a safetensors file, or only a part of one"
        header = stream.read(header_size)
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        wanted = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError):
        return "is not a safetensors file"
    if not tensors:
        return "has no tensors"
    whole = 8 + header_size + wanted
    if size < whole:
        return f"is cut off: {size:,} of {whole:,} bytes"
    return "goes on behind its last tensor" if size > whole else None
