"""Files of published weights -> tensors by their published names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.opening import STATE_ALONE, open_weights
from syncvis.interop.pickles import PickledArray
from syncvis.interop.prefixes import Entry, choose
from syncvis.training.checkpoint import spell

USUAL_KEYS = {"model", "state_dict", "model_state_dict", "blobs"}
"""Keys below which files keep the weights; weights from any other are remarked on."""

NO_WEIGHTS = re.compile(
    r"optim|sched|scaler|callback|loops|hyper_param|hparams|config|cfg|args|meta|hook|rng", re.IGNORECASE
)
"""Keys below which there are none: settings, and what continues a training."""

OPTIMIZER = {"state", "param_groups"}
"""Keys of torch's optimizers."""

TRAINING = "state or settings of a training, no weights"

DEEPEST = 6
"""Dictionaries in dictionaries."""


@dataclass(frozen=True)
class Stored:
    """The weights of a file.

    Attributes:
        tensors: by published name, without what wrappers put before it.
        passed: key in the file -> why it is passed over.
        notes: what a user must know.
    """

    tensors: dict[str, Tensor]
    passed: dict[str, str]
    notes: tuple[str, ...]


def read_stored(path: str | Path, prefix: str | None = None) -> Stored:
    """Read a torch file, a pickle of arrays (detectron2's model zoo) or safetensors; runs no code of the file.

    Args:
        prefix: which weights to take, where a file holds more than one set of them.

    Raises:
        StorageError: The file is missing, damaged, of another kind, names code, or holds no weights.
    """
    path = Path(path)
    content, remarks = open_weights(path)
    found = as_stored(content, path, prefix)
    return Stored(found.tensors, found.passed, (*remarks, *found.notes))


def as_stored(content: object, file: str | Path | None = None, prefix: str | None = None) -> Stored:
    """The weights inside whatever a file held: dictionaries around it and prefixes cut, arrays made tensors.

    Raises:
        StorageError: There is no mapping of names to tensors, more than one, or one of a library that is not read.
    """
    passed: dict[str, str] = {}
    entries = list(_entries(content, "", passed, set()))
    if not entries:
        raise _nothing(content, passed, file)
    chosen = choose(entries, file, prefix)
    places = {entry.place for entry in entries if entry.full not in chosen.passed}
    keys = places.pop().split(".")[:-1] if len(places) == 1 else []
    notes = [] if set(keys) <= USUAL_KEYS else [f"weights under the key {'.'.join(keys)!r} taken"]
    return Stored(chosen.tensors, {**passed, **chosen.passed}, (*notes, *chosen.notes))


def _entries(content: object, place: str, passed: dict[str, str], seen: set[int]) -> Iterator[Entry]:
    """All tensors in dictionaries within dictionaries, each dictionary once; ``passed`` is told what else there is."""
    if not isinstance(content, Mapping) or id(content) in seen or place.count(".") > DEEPEST:
        return
    seen.add(id(content))
    if content.keys() >= OPTIMIZER:
        passed[place.rstrip(".")] = TRAINING
        return
    tensors = {str(key): tensor for key, value in content.items() if (tensor := _tensor(value)) is not None}
    for key, value in content.items():
        full = f"{place}{key}"
        if str(key) in tensors:
            yield Entry(place, str(key), tensors[str(key)])
        elif isinstance(value, Mapping | list | tuple) and value and NO_WEIGHTS.search(str(key)):
            passed[full] = TRAINING
        elif isinstance(value, Mapping):
            yield from _entries(value, f"{full}.", passed, seen)
        elif tensors and value is not None:
            passed[full] = "no tensor"


def _nothing(content: object, passed: Mapping[str, str], file: str | Path | None) -> StorageError:
    if any(not key or "optim" in key.lower() for key in passed):
        words = "holds the state of an optimizer and no weights"
        return StorageError(words, file=file, fix="give the checkpoint that has the model, too")
    if isinstance(content, Mapping) and content:
        words = f"holds no tensor under {spell(map(str, content))}"
        return StorageError(words, file=file, fix="give the file of a model's state dict")
    return StorageError("holds no weights by name", file=file, fix=STATE_ALONE)


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, PickledArray):
        return value.tensor()
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.array(value))
    return value.detach() if isinstance(value, Tensor) else None
