"""Weights: written whole or not at all; every read says what is wrong and where."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from syncvis.errors import StorageError
from syncvis.files import write_atomically
from syncvis.methods.base import Method
from syncvis.weights import ABOUT, IMPORT, Shape, unreadable

ALIASES = (
    ("decoder.frames.", "decoder."),
    ("decoder.query_set.", "decoder.query_sets.video."),
    ("decoder.layers.", "decoder.stacks.0.layers."),
    ("decoder.heads.", "decoder.stacks.0.heads."),
    ("decoder.stacks.1.", "decoder.stacks.0."),
    ("decoder.query_sets.frame.", "decoder.query_sets.video."),
    ("decoder.query_sets.video.", "decoder.query_sets.frame."),
)
"""Where parts start from that a file lacks: those of a cascade or an unshared decoder in a file of the shared
synchronous decoder, the queries of one level in a file that has only the other."""

EXCHANGE, CLASS_HEAD, CLASS_TEXT = ".sync.", ".class_embed.", ".class_text."

OPTIONAL_PARTS = (EXCHANGE, CLASS_HEAD, CLASS_TEXT)
"""Parts that may start fresh wherever they stand: an exchange, class heads and text of another number of classes."""


def save_weights(path: Path, model: nn.Module, about: Mapping[str, Any]) -> None:
    """Write a state dict as safetensors."""
    save_tensors(path, model.state_dict(), about)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors by name as safetensors, whole or not at all; ``about`` goes into the header as JSON."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {ABOUT: json.dumps(about, sort_keys=True)} if about else None

    def write(temporary: Path) -> None:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:  # it hides what the disk said, but for the number
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), os.strerror(int(number[1]))) if number else error from None

    write_atomically(path, write)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        StorageError: It is missing or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise unreadable(Path(path), error) from None


def initialise(model: Method, path: str | Path) -> list[str]:
    """Start from the weights of another run or an imported file; returns the names of the parts that start fresh.

    A file may bring only some of the model's top-level parts (a backbone, say); those that it brings must be whole, but
    for an exchange, a class head of other classes and what the method declares ``fresh``.

    Raises:
        StorageError: A part that must not start fresh has no tensor of its shape in the file.
    """
    stored, state = read_weights(path), model.state_dict()
    found = match(_shapes(state), _shapes(stored), path, model.fresh)
    tensors = {name: state[name] if source is None else stored[source] for name, source in found.items()}
    model.load_state_dict(tensors)
    return [name for name, source in found.items() if source is None]


def match(
    state: Mapping[str, Shape], stored: Mapping[str, Shape], path: str | Path, fresh: Sequence[str] = ()
) -> dict[str, str | None]:
    """For every tensor of a model the name of the one in a file that it starts from; None if it starts fresh.

    Args:
        fresh: beginnings of names of what may start fresh if the file has nothing of it.

    Raises:
        StorageError: A part that must not start fresh has no tensor of its shape in the file.
    """
    brought, new = {part(name) for name in stored}, absent(fresh, stored)
    known = aliases(stored)
    sources_of = {name: sources(name, known) for name in state}
    if not any(source in stored for found in sources_of.values() for source in found):
        raise StorageError(
            f"has no tensor with a name of the model; its first names are {spell(stored)}",
            file=path,
            key="train.init",
            fix=IMPORT,
        )
    found = {n: next((s for s in sources_of[n] if stored.get(s) == shape), None) for n, shape in state.items()}
    wrong = [
        name
        for name, source in found.items()
        if source is None
        and part(name) in brought
        and not any(optional in name for optional in OPTIONAL_PARTS)
        and not is_within(name, new)
    ]
    if wrong:
        raise StorageError(
            f"has no tensor of the right shape for {spell(wrong)}",
            file=path,
            key="train.init",
            fix="use weights of a model of the same size, or set train.init to null",
        )
    return found


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights of exactly this model.

    Raises:
        StorageError: A key is missing, left over or has another shape; the first of them are named.
    """
    stored, state = read_weights(path), model.state_dict()
    wrong = sorted(
        name
        for name in stored.keys() | state.keys()
        if name not in stored or name not in state or stored[name].shape != state[name].shape
    )
    if wrong:
        raise StorageError(
            f"does not fit the model at {spell(wrong)}",
            file=path,
            fix="use the config.yaml that lies beside the weights",
        )
    model.load_state_dict(stored)


def aliases(stored: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Those of ALIASES for what a file, with these names, has nothing of: what it has starts from nothing else."""
    names = list(stored)
    return tuple((new, old) for new, old in ALIASES if not any(name.startswith(new) for name in names))


def sources(name: str, known: Sequence[tuple[str, str]]) -> list[str]:
    """Names that a tensor may have in a file whose aliases are ``known``, its own first."""
    found = [name]
    for one in found:  # grows on the way: an alias of an alias counts, too
        found += [
            other for new, old in known if one.startswith(new) and (other := old + one.removeprefix(new)) not in found
        ]
    return found


def absent(beginnings: Iterable[str], stored: Iterable[str]) -> tuple[str, ...]:
    """Those of the beginnings of names that no name of a file has."""
    names = list(stored)
    return tuple(one for one in beginnings if not any(is_within(name, (one,)) for name in names))


def is_within(name: str, beginnings: Iterable[str]) -> bool:
    """Whether a name is one of these, or of something inside of them: ``a.b.weight`` is within ``a.b``."""
    return any(f"{name}.".startswith(f"{one}.") for one in beginnings)


def part(name: str) -> str:
    """``backbone.stem.weight`` -> ``backbone``."""
    return name.split(".")[0]


def spell(names: Iterable[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    first = list(names)
    return ", ".join(first[:shown]) + (f" and {len(first) - shown} more" if len(first) > shown else "")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
