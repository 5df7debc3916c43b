"""Weights: written whole or not at all; every read says what is wrong and where."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from syncvis.content import EXPORT, PICKLE, SAFETENSORS, TORCH, XML, Content, content_of_file
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

EXCHANGE, CLASS_HEAD = "decoder.sync.", ".class_embed."

OPTIONAL_PARTS = (EXCHANGE, CLASS_HEAD)
"""Parts that may start fresh: the exchange, and class heads of another number of classes."""


IMPORT = "turn it into weights for train.init with `syncvis weights import FILE CONFIG`"
PUBLISHED = "give the .pkl, .pth or .safetensors that its publisher offers"
AGAIN = "copy or download it again"

_ABOUT = "syncvis"
"""The one entry of a file's metadata, JSON: safetensors writes several in any order, and equal files would differ."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """What a file of weights says without its numbers.

    Attributes:
        shapes: of every tensor.
        about: what :func:`save_tensors` was told of them.
    """

    shapes: dict[str, Shape]
    about: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the class head; None if the file does not say."""
        found = self.about.get("classes")
        return tuple(map(str, found)) if isinstance(found, list) else None


def save_weights(path: Path, model: nn.Module, about: Mapping[str, Any]) -> None:
    """Write a state dict as safetensors."""
    save_tensors(path, model.state_dict(), about)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors by name as safetensors, whole or not at all; ``about`` goes into the header as JSON."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {_ABOUT: json.dumps(about, sort_keys=True)} if about else None

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
        raise _unreadable(Path(path), error) from None


def read_header(path: str | Path) -> Header:
    """Read names, shapes and origin of the tensors in a safetensors file.

    Raises:
        StorageError: It is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            about = _parsed((file.metadata() or {}).get(_ABOUT, ""))
    except (SafetensorError, OSError) as error:
        raise _unreadable(Path(path), error) from None
    return Header(shapes, about)


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unreadable(path: Path, error: Exception) -> StorageError:
    """Why a file gave no weights, as its content tells."""
    if path.is_dir():
        return StorageError("is a folder", file=path, fix="name the file in it, such as model.safetensors of a run")
    content = content_of_file(path)
    if content in (TORCH, PICKLE):
        return StorageError(f"is {content.name}, not safetensors", file=path, fix=IMPORT)
    if content is not None and content is not SAFETENSORS:
        return no_weights(path, content)
    if not isinstance(error, OSError) and (problem := _cut_short(path)):
        return StorageError(problem, file=path, fix=AGAIN)
    problem, fix = f"cannot be read as safetensors ({error})", "give the path of a whole weights file"
    return StorageError(problem, file=path, fix=fix)


def no_weights(path: Path, content: Content) -> StorageError:
    """What to say of a file that is known to be something else."""
    fixes = {XML.fix: "open it in a text editor: it may say why the download gave it", EXPORT: PUBLISHED}
    return StorageError(f"is {content.name}", file=path, fix=fixes.get(content.fix, content.fix))


def _cut_short(path: Path) -> str:
    """How much of a safetensors file is there, if not all of it; otherwise nothing."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        begin = 8 + int.from_bytes(stream.read(8), "little")
        if size < 9:
            return f"ends early: {size:,} bytes"
        if stream.read(1) != b"{":
            return ""
        header = b"{" + stream.read(min(begin, size) - 9)
    if size < begin:
        return f"ends early: {size:,} bytes, and its header alone has {begin:,}"
    entries = _parsed(header.decode(errors="replace")).values()
    ends = [entry.get("data_offsets", [0])[-1] for entry in entries if isinstance(entry, dict)]
    whole = begin + max((end for end in ends if isinstance(end, int)), default=0)
    return f"ends early: {size:,} of {whole:,} bytes" if size < whole else ""


def initialise(model: nn.Module, path: str | Path) -> list[str]:
    """Start from the weights of another run or an imported file; returns the names of the parts that start fresh.

    A file may bring only some of the model's top-level parts (a backbone, say); those that it brings must be whole.

    Raises:
        StorageError: A part that must not start fresh has no tensor of its shape in the file.
    """
    stored, state = read_weights(path), model.state_dict()
    found = match(_shapes(state), _shapes(stored), path)
    tensors = {name: state[name] if source is None else stored[source] for name, source in found.items()}
    model.load_state_dict(tensors)
    return [name for name, source in found.items() if source is None]


def match(state: Mapping[str, Shape], stored: Mapping[str, Shape], path: str | Path) -> dict[str, str | None]:
    """For every tensor of a model the name of the one in a file that it starts from; None if it starts fresh.

    Raises:
        StorageError: A part that must not start fresh has no tensor of its shape in the file.
    """
    brought = {part(name) for name in stored}
    if not any(source in stored for name in state for source in sources(name)):
        raise StorageError(
            f"has no tensor with a name of the model; its first names are {spell(stored)}",
            file=path,
            key="train.init",
            fix=IMPORT,
        )
    found = {name: next((s for s in sources(name) if stored.get(s) == shape), None) for name, shape in state.items()}
    wrong = [
        name
        for name, source in found.items()
        if source is None and part(name) in brought and not any(optional in name for optional in OPTIONAL_PARTS)
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


def sources(name: str) -> list[str]:
    """Names that a tensor may have in a file, its own first: see ALIASES."""
    return [name, *(old + name.removeprefix(new) for new, old in ALIASES if name.startswith(new))]


def part(name: str) -> str:
    """``backbone.stem.weight`` -> ``backbone``."""
    return name.split(".")[0]


def spell(names: Iterable[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    first = list(names)
    return ", ".join(first[:shown]) + (f" and {len(first) - shown} more" if len(first) > shown else "")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
