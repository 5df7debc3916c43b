"""Published weights -> the weights of one of our models, with an account of every name on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.backbones import describe, infer_backbone
from syncvis.interop.translate import Translation, translate
from syncvis.training.checkpoint import CLASS_HEAD, EXCHANGE, absent, aliases, is_within, part, sources, spell

SHOWN = 20
"""Names of each kind that an error message spells out; a listing has all of them."""

SHOWN_OF_ANOTHER_BACKBONE = 3

COMPUTED = (".relative_position_index", ".num_batches_tracked")
"""Endings of buffers that are no weights: they keep the value that the model has."""

OUTPUT_NORMS, QUERIES = "backbone.norms.", "decoder.query_sets."


@dataclass(frozen=True)
class Converted:
    """What a published file means to a model.

    Attributes:
        kind: what the file is, in words.
        tensors: by our name, whole for every part (backbone, pixel decoder, decoder, ...) that the file brings, but for
            the exchange, class heads of another K and what the method declares fresh.
        loaded: our name -> the key in the file.
        fresh: our name -> why the file does not bring it.
        skipped: key in the file -> why it is left out.
        unused: key in the file -> the part that it belongs to, which our model does not have.
        notes: what a user must know.
    """

    kind: str
    tensors: dict[str, Tensor]
    loaded: dict[str, str]
    fresh: dict[str, str]
    skipped: dict[str, str]
    unused: dict[str, str]
    notes: tuple[str, ...] = ()


class Misfit(StorageError):
    """A file and a model that do not fit each other.

    Attributes:
        listing: every name concerned, one a line.
    """

    def __init__(self, problem: str, listing: str, file: str | Path | None, fix: str) -> None:
        super().__init__(problem, file=file, fix=fix)
        self.listing = listing


@dataclass
class _Account:
    """Where the names of both sides went."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    loaded: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    mentioned: set[str] = field(default_factory=set)  # keys of the file that have found their place


def convert(
    stored: Mapping[str, Tensor],
    model_state: Mapping[str, Tensor],
    file: str | Path | None = None,
    fresh: Sequence[str] = (),
) -> Converted:
    """Turn published weights into weights for the model whose state dict is ``model_state``.

    Args:
        stored: by published name, as in :class:`syncvis.interop.stored.Stored`.
        file: for messages.
        fresh: beginnings of names of what may start fresh (:attr:`syncvis.methods.base.Method.fresh`).

    Raises:
        Misfit: A key of the file has no place in the model, the model lacks a tensor, or shapes differ. All are named.
        StorageError: The file is of no known kind.
    """
    found = translate(stored, file)
    account = _Account(skipped=dict(found.skipped), unused=dict(found.unused))
    known = aliases(found.tensors)
    others = {part(name) for name in model_state} - set(found.parts)
    new = absent((*fresh, *others), found.tensors)
    for name, own in model_state.items():
        source = next((s for s in sources(name, known) if s in found.tensors), None)
        if source is None:
            _absent(name, own, found, new, account)
        else:
            _place(name, own, source, found, account)
    _leftover(found, model_state, account)
    if account.missing or account.shapes or account.unknown:
        raise _misfit(account, found, model_state, file)
    return Converted(
        found.kind,
        account.tensors,
        account.loaded,
        account.fresh,
        account.skipped,
        {key: account.unused[key] for key in stored if key in account.unused},
        tuple(found.notes),
    )


def _place(name: str, own: Tensor, source: str, found: Translation, account: _Account) -> None:
    """Take a tensor of the file for one of our names, if it fits."""
    key, tensor = found.official[source], found.tensors[source]
    account.mentioned.add(key)
    if tensor.shape == own.shape:
        account.tensors[name], account.loaded[name] = tensor.to(own.dtype, copy=True).contiguous(), key
    elif CLASS_HEAD in name and tensor.shape[1:] == own.shape[1:]:
        account.fresh[name] = f"class head of {own.shape[0]} rows, the file has one of {tensor.shape[0]}"
        account.skipped[key] = f"class head of {tensor.shape[0]} rows, the model has one of {own.shape[0]}"
    else:
        account.shapes.append(f"{key} {tuple(tensor.shape)} for {name} {tuple(own.shape)}")


def _absent(name: str, own: Tensor, found: Translation, new: Sequence[str], account: _Account) -> None:
    """Say why there is no tensor for one of our names; ``new``: beginnings of names of which the file has nothing."""
    in_backbone = name.startswith("backbone.")
    if in_backbone and name.endswith(COMPUTED):
        account.tensors[name] = own.clone()
    elif (
        name.startswith(OUTPUT_NORMS) and not found.whole and not any(s.startswith(OUTPUT_NORMS) for s in found.tensors)
    ):
        account.tensors[name] = own.clone()
        account.fresh[name] = "output norm of a Swin, which files of ImageNet lack"
    elif EXCHANGE in name:
        account.fresh[name] = "exchange, which is SyncVIS' own"
    elif not in_backbone and not found.whole:
        account.fresh[name] = "the file is a backbone alone"
    elif is_within(name, new):
        account.fresh[name] = f"{next(one for one in new if is_within(name, (one,)))}, of which the file has nothing"
    else:
        account.missing.append(name)


def _leftover(found: Translation, model_state: Mapping[str, Tensor], account: _Account) -> None:
    """Keys of the file that no tensor of the model took: of a part that it does not have, or without a place."""
    for name, key in found.official.items():
        if key in account.mentioned:
            continue
        addition = found.additions.get(name)
        if addition is not None and not any(own.startswith(addition.prefix) for own in model_state):
            account.unused[key] = addition.title
        elif name.startswith(QUERIES):
            account.skipped[key] = "queries of a level that the model does not have"
        elif key not in account.unknown:
            account.unknown.append(key)


def _misfit(
    account: _Account, found: Translation, model_state: Mapping[str, Tensor], file: str | Path | None
) -> Misfit:
    kinds = {
        "names that the model has no place for": account.unknown,
        "tensors that the file lacks": account.missing,
        "tensors of another shape": account.shapes,
    }
    theirs, ours = infer_backbone(found.tensors), infer_backbone(model_state)
    words, shown, fix = "", SHOWN, "use a config of the sizes in the file"
    if not account.shapes and not account.unknown:
        fix += ", or a file that is whole"
    if theirs != ours:
        words = f"the file holds {describe(theirs)}, the config says {describe(ours)}: "
        shown, fix = SHOWN_OF_ANOTHER_BACKBONE, "set model.backbone to what the file holds"
    counts = [f"{kind} ({len(names)}): {spell(names, shown)}" for kind, names in kinds.items() if names]
    listing = [f"{kind}: {name}" for kind, names in kinds.items() for name in names]
    return Misfit(f"does not fit the model: {words}{'; '.join(counts)}", "\n".join(listing), file, fix)
