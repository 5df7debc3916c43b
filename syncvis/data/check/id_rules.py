"""Rules for ids and for what refers to them."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

from syncvis.data.check.entries import NAMES, Entry, by_id, identifier, listed, show
from syncvis.data.check.findings import Finding, Mend
from syncvis.data.check.views import Tree
from syncvis.data.spellings import whole


@dataclass(frozen=True)
class Owners:
    """The entries of one list, and the annotations that refer to them."""

    tree: Tree
    list_name: str

    @property
    def name(self) -> str:
        return NAMES[self.list_name]

    @property
    def entries(self) -> tuple[Entry, ...]:
        tree = self.tree
        return {"categories": tree.categories, "videos": tree.videos, "annotations": tree.annotations}[self.list_name]

    @cached_property
    def by_id(self) -> dict[int, Entry]:
        return by_id(self.entries)

    @cached_property
    def by_name(self) -> dict[str, Entry]:
        """Entries with an id that is a name, each that of one entry."""
        named: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            value = entry.raw.get("id")
            if isinstance(value, str) and value.strip() and whole(value) is None:
                named[value].append(entry)
        return {name: found[0] for name, found in named.items() if len(found) == 1}

    @cached_property
    def by_label(self) -> dict[str, int]:
        """Ids by what else names the entry, and only it: its name, of a video also the folder of its frames."""
        found: dict[str, set[int]] = defaultdict(set)
        for entry in self.entries:
            folders = {posixpath.dirname(name) for name in listed(entry, "file_names") if isinstance(name, str)}
            for label in {entry.raw.get("name"), *(folders if len(folders) == 1 else ())}:
                if isinstance(label, str) and label.strip() and entry.id is not None:
                    found[label].add(entry.id)
        return {label: min(ids) for label, ids in found.items() if len(ids) == 1}

    @cached_property
    def meant(self) -> dict[int, list[Entry]]:
        """Entries by the number that their id stands for."""
        found: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            if (number := whole(entry.raw.get("id"))) is not None:
                found[number].append(entry)
        return found

    @cached_property
    def referring(self) -> dict[int | str, list[Entry]]:
        """Annotations by what they refer to; nothing refers to annotations."""
        found: dict[int | str, list[Entry]] = defaultdict(list)
        for annotation in self.tree.annotations if self.list_name != "annotations" else ():
            value = annotation.raw.get(f"{self.name}_id")
            key = value if isinstance(value, str) else identifier(value)
            if key is not None:
                found[key].append(annotation)
        return found

    def fresh(self) -> Iterator[int]:
        """Ids that no entry has and no annotation refers to."""
        taken = set(self.by_id) | {number for number in self.referring if isinstance(number, int)}
        yield from (number for number in count(1) if number not in taken)


def ids(tree: Tree) -> Iterator[Finding]:
    """Every entry has an id of its own."""
    for owners in (Owners(tree, name) for name in NAMES):
        fresh = owners.fresh()
        for entry in owners.entries:
            if entry.id is None:
                text, mend = _no_number(entry, owners), _numbered(entry, owners, fresh)
                yield entry.finding(f"{owners.name}-id", text, "id", mend=mend)
            elif (first := owners.by_id[entry.id]) is not entry:
                text = f"the id {entry.id} is already that of {first.key()}"
                mend = _unlike(entry, first, owners, fresh)
                yield entry.finding(f"{owners.name}-duplicate-id", text, "id", mend=mend)


def _no_number(entry: Entry, owners: Owners) -> str:
    """What is wrong with an id that is no number, or in a spelling that is not clear."""
    if "id" not in entry.raw:
        return "has no id"
    shown, meant = show(entry.raw["id"]), whole(entry.raw["id"])
    others = owners.meant.get(meant, []) if meant is not None else []
    if other := next((other for other in others[:2] if other is not entry), None):
        return f"the id is {shown}, and that of {other.key()} is {show(other.raw['id'])}: are they one?"
    return f"the id is {shown}, not a whole number"


def _numbered(entry: Entry, owners: Owners, fresh: Iterator[int]) -> Mend | None:
    """A number in place of a name, also where annotations refer to it; annotations may have any."""
    if owners.list_name == "annotations":
        return entry.put(next(fresh), "id")
    name = entry.raw.get("id")
    if not isinstance(name, str) or owners.by_name.get(name) is not entry:
        return None
    number, referring = next(fresh), owners.referring.get(name, [])
    edits = [edit for annotation in referring for edit in annotation.put(number, f"{owners.name}_id").edits]
    also = f", also where {len(referring)} annotations refer to it" if referring else ""
    return Mend(f"set id to {number}{also}", (*entry.put(number, "id").edits, *edits))


def _unlike(entry: Entry, first: Entry, owners: Owners, fresh: Iterator[int]) -> Mend | None:
    """Copies go; a new id is given where nothing can refer to the old one."""
    if entry.raw == first.raw:
        return entry.drop("copy")
    return None if entry.id in owners.referring else entry.put(next(fresh), "id")


def references(tree: Tree) -> Iterator[Finding]:
    """Every annotation is of a video and a category in the file; not asked of a list that is missing."""
    known = [owners for owners in (Owners(tree, name) for name in ("videos", "categories")) if owners.entries]
    for annotation in tree.annotations:
        for owners in known:
            value = annotation.raw.get(f"{owners.name}_id")
            if identifier(value) not in owners.by_id and not (isinstance(value, str) and value in owners.by_name):
                yield _unknown(annotation, owners.name, _known_as(annotation, value, owners))


def _known_as(annotation: Entry, value: Any, owners: Owners) -> Mend | None:
    """The id of what is referred to by its name; an annotation of no video at all can be dropped."""
    if isinstance(value, str) and value in owners.by_label:
        return annotation.put(owners.by_label[value], f"{owners.name}_id")
    all_numbered = owners.list_name == "videos" and len(owners.by_id) == len(owners.entries)
    return annotation.drop("annotation") if all_numbered else None


def _unknown(annotation: Entry, name: str, mend: Mend | None) -> Finding:
    key, form = f"{name}_id", annotation.form
    known = key in annotation.raw
    text = f"there is no {form.title(name)} {show(annotation.raw[key])}" if known else f"has no {form.key(key)}"
    return annotation.finding(f"unknown-{name}", text, key, mend=mend)
