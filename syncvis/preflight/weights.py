"""A look at the initial weights: is there a file, and is it whole? What it holds is looked at with the model."""

from __future__ import annotations

from pathlib import Path

from syncvis.errors import StorageError
from syncvis.preflight.findings import Problem
from syncvis.weights import read_header

INITIAL_WEIGHTS = "initial weights"
KEY = "train.init"


def look_at_weights(init: str | None) -> list[Problem]:
    """What is wrong with the file of ``train.init``."""
    if init is None:
        return []
    path = Path(init)
    if not path.exists():
        fix = f"syncvis weights import FILE CONFIG --out {init}, FILE as a recipe's part names it; or train.init=null"
        error = StorageError("there is no such file", file=path, key=KEY, fix=fix)
        return [Problem(INITIAL_WEIGHTS, error, is_absent=True)]
    try:
        read_header(path)
    except StorageError as error:
        return [Problem(INITIAL_WEIGHTS, StorageError(error.problem, file=path, key=KEY, fix=error.fix))]
    return []
