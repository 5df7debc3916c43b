"""Embeddings of class names: a small file with a row per class, for methods that read the names of their classes.

The file is safetensors with one tensor, ``text`` (K, D) float32. Its header names the rows (``classes``) and what made
them (``encoder``). Torch is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from syncvis.errors import DataError, StorageError
from syncvis.files import write_bytes
from syncvis.weights import ABOUT, read_header

TEXT = "text"
"""Name of the tensor."""

MAKE = "make it with `syncvis data text FOLDER --out FILE`, FOLDER that of the data set"

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class ClassText:
    """What a file holds.

    Attributes:
        source: the file.
        names: of the classes, each once.
        matrix: (K, D), finite.
    """

    source: Path
    names: tuple[str, ...]
    matrix: Matrix

    def rows(self, names: Sequence[str]) -> Matrix:
        """The rows of these classes in their order, (len(names), D).

        Raises:
            DataError: The file lacks some of them.
        """
        place = {name: row for row, name in enumerate(self.names)}
        missing = [repr(name) for name in dict.fromkeys(names) if name not in place]
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise DataError(f"has no embedding of the classes {shown}", file=self.source, fix=MAKE)
        return self.matrix[[place[name] for name in names]]


def class_rows(path: str | Path, names: Sequence[str], width: int) -> Matrix:
    """The rows of these classes in a file, (len(names), width).

    Raises:
        StorageError: It is missing, damaged or something else.
        DataError: It lacks some of the classes, or has rows of another length.
    """
    text = read_class_text(path)
    if text.matrix.shape[1] != width:
        problem = f"has {text.matrix.shape[1]} numbers for each class, and the model reads {width}"
        raise DataError(problem, file=text.source, fix=f"set method.width={text.matrix.shape[1]}, or name another file")
    return text.rows(names)


def read_class_text(path: str | Path) -> ClassText:
    """Read a file of embeddings.

    Raises:
        StorageError: It is missing, damaged or something else.
    """
    path = Path(path)
    if not path.exists():
        raise StorageError("there is no such file", file=path, fix=MAKE)
    try:
        header = read_header(path)
        if len(header.shapes.get(TEXT, ())) != 2 or header.classes is None:
            raise StorageError("holds no embeddings of class names", file=path)
        matrix = load_file(path)[TEXT]
    except StorageError as error:
        raise StorageError(error.problem, file=path, fix=MAKE) from None
    except (SafetensorError, OSError, TypeError) as error:  # a type that numpy does not have, such as bfloat16
        raise StorageError(f"cannot be read ({error})", file=path, fix=MAKE) from None
    if problem := _wrong(header.classes, matrix):
        raise StorageError(problem, file=path, fix=MAKE)
    return ClassText(path, header.classes, matrix.astype(np.float32, copy=False))


def write_class_text(path: Path, names: Sequence[str], matrix: NDArray[np.floating], encoder: str) -> ClassText:
    """Write the rows of these names, whole or not at all.

    Args:
        encoder: what made them, for the record.

    Raises:
        DataError: The matrix has not one row of finite numbers per name.
        StorageError: The file cannot be written.
    """
    matrix = np.asarray(matrix, np.float32, order="C")
    if problem := _wrong(names, matrix):
        raise DataError(problem, file=encoder, fix="give a row of finite numbers for each name, and each name once")
    about = {"classes": list(names), "encoder": encoder}
    write_bytes(path, save({TEXT: matrix}, metadata={ABOUT: json.dumps(about, sort_keys=True)}))
    return ClassText(path, tuple(names), matrix)


def _wrong(names: Sequence[str], matrix: NDArray[np.floating]) -> str:
    """What is wrong with the rows of these names; empty if nothing is."""
    if matrix.ndim != 2 or len(matrix) != len(names) or not matrix.size:
        return f"has embeddings of shape {matrix.shape} for {len(names)} class names"
    if len(set(names)) < len(names):
        return f"names a class twice: {next(name for name in names if list(names).count(name) > 1)!r}"
    if matrix.dtype.kind != "f" or not np.isfinite(matrix).all():
        return "has embeddings that are not finite numbers"
    return ""
