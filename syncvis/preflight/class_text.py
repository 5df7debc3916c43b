"""A look at the embeddings of class names that a method reads: is the file there, and does it know every class?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from syncvis.config import DataConfig, MethodSettings
from syncvis.data.class_text import class_rows
from syncvis.errors import DataError, StorageError
from syncvis.preflight.findings import Problem

KEY = "method.text"


def look_at_class_text(method: MethodSettings, data: DataConfig, names: Sequence[str]) -> list[Problem]:
    """What is wrong with the file; ``names``: of the classes, none if nobody knows them."""
    if method.class_text is None:
        return []
    path, width = method.class_text
    if not Path(path).exists():
        error = StorageError("there is no such file", file=Path(path), key=KEY, fix=_make(path, width, data))
        return [Problem("class-name embeddings", error, "absent")]
    try:
        class_rows(path, names, width)
    except (DataError, StorageError) as error:
        found = type(error)(error.problem, file=Path(path), key=KEY, fix=error.fix)
        return [Problem("class-name embeddings", found)]
    return []


def _make(path: str, width: int, data: DataConfig) -> str:
    words = ["syncvis", "data", "text", data.root, "--split", data.train, "--width", str(width), "--out", path]
    other = (
        "--encoder MODULE:FUNCTION in place of --width for what the names mean, not how they are spelt (docs/data.md)"
    )
    return f"{shlex.join(words)}; or {other}"
