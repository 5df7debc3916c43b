"""What turns class names into rows of numbers: the spelling of the names, or any function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syncvis.data.coco_names import plain
from syncvis.errors import ConfigError, DataError
from syncvis.references import allow, load

Encoder = Callable[[Sequence[str]], ArrayLike]
"""K names -> (K, D)."""

Matrix = NDArray[np.float32]

LENGTHS = (2, 3, 4)
"""Of the pieces of a name that are counted."""


def spelling(names: Sequence[str], width: int = 1024) -> Matrix:
    """Hashed pieces of the names: a stand-in for a language model that knows how names are spelt, not what they mean.

    A name's row counts its runs of two to four letters, each at a place and with a sign that its hash gives, the same
    on any machine. Case and the kind of a space do not matter. Names that share pieces ("polar bear", "bear") are
    close; others ("dog", "cat") are about as far apart as random rows, whatever they mean.

    Args:
        width: D.

    Returns:
        (K, width); the mean square of a row is 1, as linear layers expect it of their input.
    """
    matrix = np.zeros((len(names), width))
    for row, name in zip(matrix, names, strict=True):
        for piece in _pieces(name):
            digest = int.from_bytes(blake2b(piece.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
            row[digest // 2 % width] += 1 - 2 * (digest % 2)
    size = np.sqrt(np.square(matrix).mean(1, keepdims=True))
    scaled: Matrix = (matrix / np.maximum(size, np.finfo(np.float64).tiny)).astype(np.float32)
    return scaled


def _pieces(name: str) -> list[str]:
    """Runs of letters of each length; a space before and behind tells beginnings and ends."""
    text = f" {plain(name)} "
    return [text[start : start + n] for n in LENGTHS for start in range(len(text) - n + 1)]


def encode_with(encoder: str, names: Sequence[str]) -> Matrix:
    """What the function that ``module:function`` names makes of the names. Its module is imported: its code runs.

    Raises:
        ConfigError: There is no such function.
        DataError: It gives something that is no array of numbers.
    """
    try:
        allow([encoder.partition(":")[0]])  # the command line has just named it
        found: Encoder = load(encoder, {})
    except ConfigError as error:
        fix = "give MODULE:FUNCTION, with the module's folder in PYTHONPATH"
        raise ConfigError(error.problem, file="command line", key="--encoder", fix=fix) from error
    try:
        return np.asarray(found(names), np.float32)
    except (TypeError, ValueError) as error:
        fix = "return an array (K, D) of numbers for K names"
        raise DataError(f"gives no array of numbers ({error})", file=encoder, fix=fix) from None
