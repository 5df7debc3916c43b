"""Whole numbers that a file writes as text or with a decimal point: read as what they stand for, and mended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from syncvis.data.check.entries import Entry, show
from syncvis.data.check.findings import Edit, Finding
from syncvis.data.check.forms import Form, Json
from syncvis.data.spellings import whole

_NUMBERS = {
    "categories": ("id",),
    "videos": ("id", "height", "width", "length"),
    "annotations": ("id", "video_id", "category_id"),
}
_REFERENCES = {"video_id": "videos", "category_id": "categories"}

Member = tuple[int, Json]


def respelt(raw: Json) -> tuple[Json, list[Finding]]:
    """The file with all numbers as they are meant, and a finding for each that is written otherwise.

    Ids that would become equal (1 and "1") stay as they are, and so do references to them: what they mean is not clear.
    """
    form = Form.of(raw)
    members = {name: list(_members(raw.get(form.key(name)))) for name in _NUMBERS}
    unclear = {name: frozenset(_unclear(found)) for name, found in members.items()}
    places = [
        (Entry(list_name, index, form.entry(list_name, entry), form), name, value)
        for list_name, names in _NUMBERS.items()
        for index, entry in members[list_name]
        for name, value in _misspelt(entry, list_name, {name: form.key(name) for name in names}, unclear)
    ]
    if not places:
        return raw, []
    seen = _patched(raw, [edit for entry, name, value in places for edit in entry.put(value, name).edits])
    return seen, [_finding(seen, entry, name, value) for entry, name, value in places]


def _members(values: Any) -> Iterator[Member]:
    """The objects of a list, with their places."""
    yield from ((i, value) for i, value in enumerate(values if isinstance(values, list) else []) if type(value) is dict)


def _finding(seen: Json, entry: Entry, name: str, value: int) -> Finding:
    """It names the entry by the ids that are meant."""
    raw = entry.form.entry(entry.list, seen[entry.form.key(entry.list)][entry.index])
    text = f"{entry.form.key(name)} is {show(entry.raw[name])}, not the number {value}"
    return replace(entry, raw=raw).finding("number-spelling", text, name, mend=entry.put(value, name))


def _misspelt(
    entry: Json, list_name: str, keys: Mapping[str, str], unclear: Mapping[str, frozenset[int]]
) -> Iterator[tuple[str, int]]:
    """Names whose value stands for another one, and that one."""
    for name, key in keys.items():
        value = entry.get(key)
        if type(value) in (str, float) and (meant := whole(value)) is not None:
            owners = list_name if name == "id" else _REFERENCES.get(name, "")
            if meant not in unclear.get(owners, ()):
                yield name, meant


def _unclear(members: Iterable[Member]) -> Iterator[int]:
    """Numbers that are the ids of several entries and written in several ways."""
    spellings = defaultdict(set)
    for _, entry in members:
        if (meant := whole(entry.get("id"))) is not None:
            spellings[meant].add(repr(entry["id"]))
    yield from (meant for meant, written in spellings.items() if len(written) > 1)


def _patched(raw: Json, edits: Iterable[Edit]) -> Json:
    """A copy with new values; what does not change is shared."""
    seen, copied = dict(raw), set()
    for edit in edits:
        name, index, key = edit.path
        if name not in copied:
            seen[str(name)] = list(seen[str(name)])
            copied.add(name)
        members = seen[str(name)]
        members[index] = {**members[index], key: edit.value}
    return seen
