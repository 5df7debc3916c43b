"""Weights: written whole or not at all; every read says what is wrong and where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from syncvis.errors import StorageError
from syncvis.files import write_atomically

ALIASES = (
    ("decoder.frames.", "decoder."),
    ("decoder.query_set.", "decoder.query_sets.video."),
    ("decoder.layers.", "decoder.stacks.0.layers."),
    ("decoder.heads.", "decoder.stacks.0.heads."),
    ("decoder.stacks.1.", "decoder.stacks.0."),
    ("decoder.query_sets.frame.", "decoder.query_sets.video."),
)
"""Where parts start from that a file lacks: those of a cascade or an unshared decoder in a file of the shared
synchronous decoder, frame queries in a file of Mask2Former-VIS."""

OPTIONAL_PARTS = ("decoder.sync.", ".class_embed.")
"""Parts that may start fresh: the exchange, and class heads of another number of classes."""


def save_weights(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write a state dict as safetensors."""
    save_tensors(path, model.state_dict(), metadata)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name as safetensors, whole or not at all."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(contiguous, temporary, metadata=dict(metadata))
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
        raise StorageError(
            f"cannot be read as safetensors ({error})", file=path, fix="give the path of a whole weights file"
        ) from None


def initialise(model: nn.Module, path: str | Path) -> list[str]:
    """Start from the weights of another run or an imported file; returns the names of the parts that start fresh.

    A file may bring only some of the model's top-level parts (a backbone, say); those that it brings must be whole.

    Raises:
        StorageError: A part that must not start fresh has no tensor of its shape in the file.
    """
    stored = read_weights(path)
    state = model.state_dict()
    brought = {_part(name) for name in stored} & {_part(name) for name in state}
    found = {name: _find(name, tensor, stored) for name, tensor in state.items()}
    fresh = [name for name, tensor in found.items() if tensor is None]
    may_be_fresh = {name for name in fresh if any(part in name for part in OPTIONAL_PARTS)}
    wrong = [name for name in fresh if name not in may_be_fresh and (_part(name) in brought or not brought)]
    if wrong:
        names = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise StorageError(
            f"has no tensor of the right shape for {names}",
            file=path,
            key="train.init",
            fix="use weights of a model of the same size, or set train.init to null",
        )
    model.load_state_dict({name: state[name] if tensor is None else tensor for name, tensor in found.items()})
    return fresh


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
            f"does not fit the model at {', '.join(wrong[:3])}" + (f" and {len(wrong) - 3} more" * (len(wrong) > 3)),
            file=path,
            fix="use the config.yaml that lies beside the weights",
        )
    model.load_state_dict(stored)


def sources(name: str) -> list[str]:
    """Names that a tensor may have in a file, its own first: see ALIASES."""
    return [name, *(old + name.removeprefix(new) for new, old in ALIASES if name.startswith(new))]


def _find(name: str, tensor: Tensor, stored: Mapping[str, Tensor]) -> Tensor | None:
    return next((stored[s] for s in sources(name) if s in stored and stored[s].shape == tensor.shape), None)


def _part(name: str) -> str:
    """``backbone.stem.weight`` -> ``backbone``."""
    return name.split(".")[0]
