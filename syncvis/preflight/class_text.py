"""A look at the embeddings of class names that a method reads: is the file there, and does it know every class?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from syncvis.config import MethodSettings
from syncvis.data.class_text import class_rows
from syncvis.errors import DataError, StorageError
from syncvis.preflight.findings import Problem

KEY = "method.text"


def look_at_class_text(method: MethodSettings, names: Sequence[str]) -> list[Problem]:
    """What is wrong with the file; ``names``: of the classes, none if nobody knows them."""
    if method.class_text is None:
        return []
    path, width = method.class_text
    try:
        class_rows(path, names, width)
    except (DataError, StorageError) as error:
        found = type(error)(error.problem, file=Path(path), key=KEY, fix=error.fix)
        return [Problem("class-name embeddings", found, is_absent=not Path(path).exists())]
    return []
