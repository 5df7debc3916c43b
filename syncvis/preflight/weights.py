"""A look at the initial weights: is there a file, and is it whole? What it holds is looked at with the model."""

from __future__ import annotations

import shlex
from pathlib import Path

from syncvis.errors import StorageError
from syncvis.preflight.findings import Problem
from syncvis.preflight.published_weights import published_weights
from syncvis.weights import read_header

INITIAL_WEIGHTS = "initial weights"
KEY = "train.init"


def look_at_weights(init: str | None) -> list[Problem]:
    """What is wrong with the file of ``train.init``."""
    if init is None:
        return []
    path = Path(init)
    if not path.exists():
        error = StorageError("there is no such file", file=path, key=KEY, fix=_get(init))
        return [Problem(INITIAL_WEIGHTS, error, "absent")]
    try:
        read_header(path)
    except StorageError as error:
        return [Problem(INITIAL_WEIGHTS, StorageError(error.problem, file=path, key=KEY, fix=error.fix))]
    return []


def _get(init: str) -> str:
    """How to come to a file of initial weights."""
    known = published_weights().get(Path(init).name)
    if known is None:
        command = f"syncvis weights import FILE CONFIG --out {shlex.quote(init)}"
        return f"get weights from their publisher (docs/weights.md); then {command}; or train.init=null"
    command = shlex.join(["syncvis", "weights", "import", known.file, known.config, "--out", init])
    return f"get {known.file} ({known.what}) from {known.page}; then {command}; or train.init=null"
