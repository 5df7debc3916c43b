"""What changed between two definitions of a study, in words, and whether its cells are still members of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sweeps.definition import Study, from_definition
from sweeps.space import Dimension, is_among
from syncvis.config import RunConfig

Tree = Mapping[str, Any]
_MISSING = object()


def difference(old: Tree, new: Tree) -> list[str]:
    """One line per change from one definition to another; none where every cell and the search stay as they are.

    Title, question, claims and the file's place do not count, nor does a default that is now written out.

    Raises:
        StorageError: One of them is no definition.
    """
    before, after = from_definition(old), from_definition(new)
    return [
        *_axes(before.axes, after.axes),
        *_sequence("seed", "seeds", list(before.seeds), list(after.seeds)),
        *_tree("base", _meaning(before.base), _meaning(after.base)),
        *_tree("", {"search": _search(before)}, {"search": _search(after)}),
    ]


def extends(old: Tree, new: Tree) -> bool:
    """Whether every cell of the old definition is one of the new, at the same point; its place may change.

    Raises:
        StorageError: One of them is no definition.
    """
    before, after = from_definition(old), from_definition(new)
    known = {axis.name: axis for axis in before.axes}
    kept = [axis.name for axis in after.axes if axis.name in known]
    return (
        kept == list(known)  # changes are applied in the order of the axes
        and set(before.seeds) <= set(after.seeds)
        and _meaning(before.base) == _meaning(after.base)
        and all(
            _still_holds(known[axis.name], axis, known) if axis.name in known else _only_elsewhere(axis, known)
            for axis in after.axes
        )
    )


def _still_holds(old: Dimension, new: Dimension, known: Mapping[str, Dimension]) -> bool:
    """Whether an axis still exists at the same old points, with all of its old values."""
    if old.when.keys() != new.when.keys():
        return False
    for axis, labels in new.when.items():
        among_old = [label for label in labels if known[axis].changes(label) is not None]
        if not _same_set(among_old, old.when[axis]):
            return False
    if old.range is None:
        return all(_text(new.changes(point.label)) == _text(point.changes) for point in old.points)
    if new.range is None or old.key != new.key:
        return False
    choices = old.range.choices()
    bounds = old.range.low in new.range and old.range.high in new.range
    return bounds if choices is None else all(label in new.range for label in choices)


def _only_elsewhere(axis: Dimension, known: Mapping[str, Dimension]) -> bool:
    """Whether a new axis exists at no old point."""
    return any(
        other not in known or all(known[other].changes(label) is None for label in labels)
        for other, labels in axis.when.items()
    )


def _axes(old: Sequence[Dimension], new: Sequence[Dimension]) -> Iterator[str]:
    before, after = {axis.name: axis for axis in old}, {axis.name: axis for axis in new}
    dropped = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    renamed: dict[str, str] = {}
    for name in dropped:
        same = (
            other
            for other in added
            if other not in renamed.values() and _content(before[name]) == _content(after[other])
        )
        found = next(same, None)
        if found is not None:
            renamed[name] = found
            yield f"axis {name} renamed to {found}"
    yield from (f"axis {name} dropped" for name in dropped if name not in renamed)
    yield from (f"axis {name} added" for name in added if name not in renamed.values())
    kept = [renamed.get(name, name) for name in before if name in after or name in renamed]
    order = [name for name in after if name in kept]
    if kept != order:
        yield f"axes reordered: {', '.join(kept)} -> {', '.join(order)}"
    for name in before:
        if renamed.get(name, name) in after:
            yield from _axis(before[name], after[renamed.get(name, name)], renamed)


def _axis(old: Dimension, new: Dimension, renamed: Mapping[str, str]) -> Iterator[str]:
    place = f"axis {new.name}"
    conditions = {renamed.get(axis, axis): list(labels) for axis, labels in old.when.items()}
    yield from _tree(f"{place} when", conditions, {axis: list(labels) for axis, labels in new.when.items()})
    if old.range or new.range:
        if (old.range, old.key) != (new.range, new.key):
            yield f"{place}: {_shown(old)} -> {_shown(new)}"
        return
    before = {_text(point.label): _text(point.changes) for point in old.points}
    after = {_text(point.label): _text(point.changes) for point in new.points}
    by_changes = {changes: label for label, changes in after.items() if label not in before}
    names = {label: by_changes[c] for label, c in before.items() if label not in after and c in by_changes}
    yield from (f"{place}: value {label} renamed to {name}" for label, name in names.items())
    for label in before:
        if before[label] != after.get(label, before[label]):
            yield f"{place}: value {label} sets {after[label]}, not {before[label]}"
    yield from _sequence(
        f"{place}: value", f"{place}: values", [names.get(label, label) for label in before], list(after)
    )


def _sequence(one: str, many: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    yield from (f"{one} {item} dropped" for item in old if item not in new)
    yield from (f"{one} {item} added" for item in new if item not in old)
    kept, order = [item for item in old if item in new], [item for item in new if item in old]
    if kept != order:
        yield f"{many} reordered: {', '.join(map(str, kept))} -> {', '.join(map(str, order))}"


def _tree(place: str, old: Tree, new: Tree, above: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _tree(place, one, other, f"{above}{key}.")
        elif one != other:
            yield f"{place} {above}{key}: {_text(one)} -> {_text(other)}".strip()


def _meaning(base: Tree) -> Tree:
    """The base as every run sees it, defaults filled in; as it is written, where it needs the axes to be valid."""
    try:
        tree: Tree = RunConfig.model_validate(base).model_dump(mode="json")
    except ValidationError:
        tree = base
    return {key: value for key, value in tree.items() if key != "seed"}


def _search(study: Study) -> dict[str, Any] | None:
    return study.search.model_dump(mode="json") if study.search else None


def _content(axis: Dimension) -> tuple[Any, ...]:
    return axis.points, axis.key, axis.range


def _shown(axis: Dimension) -> str:
    if axis.range is None:
        return f"values {', '.join(_text(point.label) for point in axis.points)}"
    details = {key: value for key, value in axis.range.model_dump().items() if value}
    return f"{axis.key} in {_text(details)}"


def _same_set(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return all(is_among(label, other) for label in one) and all(is_among(label, one) for label in other)


def _text(value: Any) -> str:
    return "not set" if value is _MISSING else json.dumps(value)
