"""What a file of weights says without its numbers, and why a file holds none. Torch is not needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from syncvis.content import EXPORT, PICKLE, SAFETENSORS, TORCH, XML, Content, content_of_file
from syncvis.errors import StorageError

IMPORT = "turn it into weights for train.init with `syncvis weights import FILE CONFIG`"
PUBLISHED = "give the .pkl, .pth or .safetensors that its publisher offers"
AGAIN = "copy or download it again"

ABOUT = "syncvis"
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


def read_header(path: str | Path) -> Header:
    """Read names, shapes and origin of the tensors in a safetensors file.

    Raises:
        StorageError: It is missing or damaged.
    """
    try:
        with safe_open(path, "np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            about = _parsed((file.metadata() or {}).get(ABOUT, ""))
    except (SafetensorError, OSError) as error:
        raise unreadable(Path(path), error) from None
    return Header(shapes, about)


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def unreadable(path: Path, error: Exception) -> StorageError:
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
