"""The tensors of a published file under our names, as the tables of :mod:`syncvis.interop.names` say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.names import ADDITIONS
from syncvis.interop.names.backbones import BACKBONES, CAFFE2_RESNET
from syncvis.interop.names.mask2former import MASK2FORMER
from syncvis.interop.names.naming import PACKED, PACKED_ORDER, Naming, Rules, reason_for
from syncvis.interop.prefixes import same, two_names
from syncvis.methods.masked import PIXEL_STD

STRIDE_NOTE = (
    "MSRA's ResNets stride in the 1x1 convolutions, this model in the 3x3: the weights are MSRA's, the features are "
    "not; torchvision's network, also as converted for detectron2, has its stride where this model has it"
)


@dataclass
class Translation:
    """A published file in our names: those of a decoder shared by frame and video queries.

    Attributes:
        kind: what the file is, in words.
        whole: it is a model; otherwise a backbone.
        tensors: by our name.
        official: our name -> the key in the file.
        parts: top-level parts that it must bring whole.
        additions: our name -> the table that it comes from, of names that a Mask2Former does not have.
        skipped, unused: key -> why it is not taken.
        differ: two keys that mean the same and hold other numbers.
        notes: what a user must know.
    """

    kind: str
    whole: bool
    parts: tuple[str, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    official: dict[str, str] = field(default_factory=dict)
    additions: dict[str, Naming] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    differ: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, tensor: Tensor, naming: Naming) -> None:
        """Take in one key of the file; ``naming`` knows it without the prefix ``backbone.``."""
        name = key.removeprefix(naming.prefix)
        for table, reasons in ((naming.skipped, self.skipped), (naming.unused, self.unused)):
            if reason := reason_for(name, table):
                reasons[key] = reason
                return
        for own, part in _unpacked(naming.prefix + rename(name, naming.rules), tensor):
            if own not in self.tensors:
                self.tensors[own], self.official[own] = part, key
                if naming in ADDITIONS:
                    self.additions[own] = naming
            elif same(self.tensors[own], part):
                self.skipped[key] = f"the same numbers as {self.official[own]}"
            elif (pair := (self.official[own], key)) not in self.differ:
                self.differ.append(pair)


def translate(stored: Mapping[str, Tensor], file: str | Path | None = None) -> Translation:
    """Give every tensor of a published file our name.

    Raises:
        StorageError: The names are of no known kind of file, or two that mean the same tensor hold other numbers.
    """
    whole = _has_marker(MASK2FORMER, stored)
    bare = [name.removeprefix("backbone.") for name in stored]
    backbone = next((naming for naming in BACKBONES if _has_marker(naming, bare)), None)
    if backbone is None:
        known = ", ".join(naming.title for naming in (*BACKBONES, MASK2FORMER))
        raise StorageError(
            f"is no file of a known kind; its first names are {', '.join(list(stored)[:3])}",
            file=file,
            fix=f"give one of: {known}; weights of this workbench need no import",
        )
    rest = MASK2FORMER if whole else backbone
    found = Translation(
        f"Mask2Former with {backbone.title}" if whole else backbone.title, whole, rest.parts or ("backbone",)
    )
    for key, tensor in stored.items():
        addition = next((table for table in ADDITIONS if whole and re.match(table.marker, key)), rest)
        found.add(key, tensor, backbone if key.startswith("backbone.") else addition)
    if found.differ:
        raise two_names(found.differ, file)
    _start_video_queries(found)
    if backbone is CAFFE2_RESNET:
        _to_rgb(found)
        found.notes.append(STRIDE_NOTE)
    return found


def rename(name: str, rules: Rules) -> str:
    """Apply a table from top to bottom."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _has_marker(naming: Naming, names: Iterable[str]) -> bool:
    return any(re.search(naming.marker, name) for name in names)


def _unpacked(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Query, key and value of a packed attention one by one; anything else as it is."""
    part, _, last = name.rpartition(".")
    if last in PACKED and tensor.ndim and tensor.shape[0] % 3 == 0:
        for role, rows in zip(PACKED_ORDER, tensor.chunk(3), strict=True):
            yield f"{part}.{role}.{PACKED[last]}", rows
    else:
        yield name, tensor


def _start_video_queries(found: Translation) -> None:
    """A file with one set of queries starts both levels from it."""
    for frame in [name for name in found.tensors if ".query_sets.frame." in name]:
        video = frame.replace(".frame.", ".video.")
        found.tensors.setdefault(video, found.tensors[frame])
        found.official.setdefault(video, found.official[frame])


def _to_rgb(found: Translation) -> None:
    """A first convolution of blue, green, red in 0..255 -> one of normalised red, green, blue."""
    stem = found.tensors.get("backbone.stem.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
        scale = torch.tensor(PIXEL_STD, dtype=stem.dtype)[:, None, None]
        found.tensors["backbone.stem.weight"] = stem.flip(1) * scale
