"""Which of the names in a file are one model's, and what stands in front of them.

Trainers wrap a model and each wrapper puts a word before every name: ``module.``, ``model.``, ``_orig_mod.``,
``ema_model.``, also one after another. Whatever stands before a name that begins as those of known files do is such a
prefix; names with the same prefix are a set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.families import refuse_foreign
from syncvis.interop.names import ADDITIONS
from syncvis.interop.names.mask2former import MASK2FORMER
from syncvis.interop.names.naming import reason_for
from syncvis.training.checkpoint import spell

WRAPPING = re.compile(
    r"(?:(?:module|model|_orig_mod|_forward_module|ema|ema_model|model_ema|student|teacher|net|network)\.)+"
)
"""What stands before the names of a file of no known kind."""

FEW = 10
"""A second set with at most one name for so many of the first is called names that stand twice."""

_PART_WRAPPER = r"(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."

INNER = re.compile(rf"(?<=\.){_PART_WRAPPER}")
"""Wrappers of a part of a model; no name of a known file has these words."""

BEGINNING = re.compile(
    rf"""(backbone\.({_PART_WRAPPER})*)?
            (layer\d\.\d|res\d\.\d|features\.\d\.|layers\.\d\.(blocks|downsample)\.|stem\.conv1\.|patch_embed\.)
        |backbone\.({_PART_WRAPPER})*(conv1|bn1|fc|linear|head|norm\d?)\.
        |res\d_\d+_branch
        |sem_seg_head\.""",
    re.VERBOSE,
)
"""How names of known files begin, besides those of additions; what stands before it is a prefix."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a file.

    Attributes:
        place: keys of the dictionaries that it lies in, each with a dot behind it: ``"state_dict."``.
        name: in the innermost dictionary.
    """

    place: str
    name: str
    tensor: Tensor

    @property
    def full(self) -> str:
        return self.place + self.name

    @property
    def is_lone_number(self) -> bool:
        """Whether it is one number that belongs to no part of a model, such as a count of updates."""
        return "." not in self.name and self.tensor.numel() <= 1


@dataclass
class NamedSet:
    """The tensors behind one prefix.

    Attributes:
        prefix: of their full names.
        entries: by name without the prefix.
    """

    prefix: str
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The part of the prefix that is keys of dictionaries, the same for all."""
        places = {entry.place for entry in self.entries.values()}
        heads = [self.prefix[: dot.end()] for dot in re.finditer(r"\.", self.prefix)]
        return max((head for head in heads if all(p.startswith(head) for p in places)), key=len, default="")

    @property
    def shown(self) -> str:
        """The prefix as it stands in the names."""
        return self.prefix.removeprefix(self.place)


@dataclass
class Chosen:
    """The names of one model, cleaned, and what became of the others.

    Attributes:
        passed: full name -> why it is passed over.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose(entries: Sequence[Entry], file: str | Path | None = None, prefix: str | None = None) -> Chosen:
    """Find the one set of weights in a file, or that behind ``prefix``, and cut what stands before its names.

    Raises:
        StorageError: A name stands in the file twice, there are several sets that differ, one is spread over several
            prefixes, none has the prefix, or the names are of a library that is not read.
    """
    chosen = Chosen()
    twice = [name for name, count in Counter(entry.full for entry in entries).items() if count > 1]
    if twice:
        raise two_names([(name, name) for name in twice], file)
    if prefix is not None:
        entries = _behind(prefix, entries, chosen, file)
    refuse_foreign([entry.full for entry in entries], file)
    sets = _sets(entries)
    main = max(sets, key=lambda found: (len(found.entries), -len(found.prefix)), default=NamedSet(""))
    for other in sets:
        if other is not main:
            _pass_copy(main, other, chosen, file)
    inside = {entry.full for found in sets for entry in found.entries.values()}
    _pass_outside(main, [entry for entry in entries if entry.full not in inside], chosen, file)
    if main.shown:
        chosen.notes.append(f"prefix {main.shown!r} cut from {len(main.entries)} names")
    _take(main, chosen, file)
    return chosen


def same(first: Tensor, second: Tensor) -> bool:
    """Equal in type, shape and every number."""
    return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)


def two_names(pairs: Sequence[tuple[str, str]], file: str | Path | None) -> StorageError:
    """The error of tensors that stand in a file twice, with different numbers."""
    shown = spell([" and ".join(pair) for pair in pairs])
    problem = f"has two names for one tensor that differ ({len(pairs)}): {shown}"
    return StorageError(
        problem, file=file, fix="find out which of the two was trained, and store the file without the other"
    )


def _sets(entries: Sequence[Entry]) -> list[NamedSet]:
    """The entries by prefix; what begins in no known way goes to the set whose prefix it has, or to none."""
    prefixes = {entry.full: _prefix(entry.full) for entry in entries}
    if not any(found is not None for found in prefixes.values()):
        wrapped = {e.place + (found[0] if (found := WRAPPING.match(e.name)) else "") for e in entries}
        return [_set(wrapped.pop() if len(wrapped) == 1 else "", entries)]
    known = sorted(dict.fromkeys(p for p in prefixes.values() if p is not None), key=len, reverse=True)
    members: dict[str, list[Entry]] = {found: [] for found in known}
    for entry in entries:
        own = prefixes[entry.full]
        if own is None and not entry.is_lone_number:
            own = next((found for found in known if entry.full.startswith(found)), None)
        if own is not None:
            members[own].append(entry)
    return [_set(found, entries) for found, entries in members.items()]


def _set(prefix: str, entries: Sequence[Entry]) -> NamedSet:
    return NamedSet(prefix, {entry.full.removeprefix(prefix): entry for entry in entries})


def _prefix(full: str) -> str | None:
    """The shortest thing that ends in a dot and stands before a known beginning."""
    starts = [0, *(found.end() for found in re.finditer(r"\.", full))]
    return next((full[:start] for start in starts if _begins(full[start:])), None)


def _begins(name: str) -> bool:
    """Whether a name is one of a known file (:mod:`syncvis.interop.names`), nothing standing before it."""
    return bool(BEGINNING.match(name)) or any(re.match(table.marker, name) for table in ADDITIONS)


def _behind(prefix: str, entries: Sequence[Entry], chosen: Chosen, file: str | Path | None) -> list[Entry]:
    """The entries of the set with exactly this prefix, else all that begin with it."""
    wanted = f"{prefix.rstrip('.')}." if prefix else ""
    sets = _sets(entries)
    exact = [found for found in sets if wanted in (found.prefix, found.shown)]
    if len(exact) == 1:
        taken = list(exact[0].entries.values())
    else:
        taken = [entry for entry in entries if entry.full.startswith(wanted) or entry.name.startswith(wanted)]
    if not taken:
        there = " and ".join(f"{len(found.entries)} {_described(found, sets)}" for found in sets)
        raise StorageError(
            f"has no name with the prefix {prefix!r}; it has {there}", file=file, fix="choose one of these"
        )
    full = {entry.full for entry in taken}
    chosen.passed |= {e.full: f"not behind the prefix {wanted!r}" for e in entries if e.full not in full}
    return taken


def _pass_copy(main: NamedSet, other: NamedSet, chosen: Chosen, file: str | Path | None) -> None:
    """Pass over a second set that holds nothing of its own; whatever else it is, it is an error."""
    twice = [name for name in other.entries if name in main.entries]
    differ = [name for name in twice if not same(main.entries[name].tensor, other.entries[name].tensor)]
    if other.place == main.place and 2 * len(twice) < len(other.entries):
        raise _mixture(main, other, file)
    if other.place == main.place and differ and FEW * len(other.entries) <= len(main.entries):
        raise two_names([(main.entries[name].name, other.entries[name].name) for name in differ], file)
    if differ or len(twice) < len(other.entries):
        raise _choice([main, other], len(differ), file)
    reason = f"the same numbers as those {_described(main, [main, other])}"
    chosen.passed |= {entry.full: reason for entry in other.entries.values()}


def _choice(sets: Sequence[NamedSet], differ: int, file: str | Path | None) -> StorageError:
    described = " and ".join(f"{_described(found, sets)} ({len(found.entries)} names)" for found in sets)
    options = " or ".join(f"--prefix {_label(found, sets) or repr('')}" for found in sets)
    difference = f"; {differ} tensors of the same name differ" if differ else ""
    problem = f"holds two sets of weights, {described}{difference}"
    return StorageError(problem, file=file, fix=f"choose one with {options}")


def _mixture(main: NamedSet, other: NamedSet, file: str | Path | None) -> StorageError:
    sets = [main, other]
    described = [
        f"{len(found.entries)} {_described(found, sets)} (such as {next(iter(found.entries.values())).name})"
        for found in sets
    ]
    fix = "save the state dict of one model, all of it from the same wrapper"
    if main.shown and 2 * len(other.entries) < len(main.entries):
        fix += f"; or take those {_described(main, sets)} alone: --prefix {_label(main, sets)}"
    return StorageError(f"is a mixture of names: {' and '.join(described)}", file=file, fix=fix)


def _label(found: NamedSet, sets: Sequence[NamedSet]) -> str:
    """The prefix in the names, with the keys of dictionaries before it where these tell sets apart."""
    return found.prefix if len({other.place for other in sets}) > 1 else found.shown


def _described(found: NamedSet, sets: Sequence[NamedSet]) -> str:
    label = _label(found, sets)
    return f"with the prefix {label!r}" if label else "without a prefix"


def _pass_outside(main: NamedSet, outside: Sequence[Entry], chosen: Chosen, file: str | Path | None) -> None:
    """Pass over single numbers, constants and what lies in other dictionaries; weights without the prefix are wrong."""
    wrong = {}
    for entry in outside:
        if entry.place != main.place:
            chosen.passed[entry.full] = "beside the weights"
        elif entry.tensor.numel() <= 1:
            chosen.passed[entry.full] = "one number, outside of the model"
        elif (reason := reason_for(entry.name, MASK2FORMER.skipped)) is not None:
            chosen.passed[entry.full] = reason
        else:
            wrong[entry.name] = entry
    if wrong:
        raise _mixture(main, NamedSet(main.place, wrong), file)


def _take(main: NamedSet, chosen: Chosen, file: str | Path | None) -> None:
    """Cut wrappers of parts, too."""
    taken: dict[str, Entry] = {}
    inner, differ = 0, []
    for name, entry in main.entries.items():
        short = INNER.sub("", name)
        inner += short != name
        if short not in taken:
            taken[short] = entry
        elif same(taken[short].tensor, entry.tensor):
            chosen.passed[entry.full] = f"the same numbers as {taken[short].name}"
        else:
            differ.append((taken[short].name, entry.name))
    if differ:
        raise two_names(differ, file)
    if inner:
        chosen.notes.append(f"wrappers of parts (such as 'module.' or '_orig_mod.') cut from inside {inner} names")
    chosen.tensors = {name: entry.tensor for name, entry in taken.items()}
