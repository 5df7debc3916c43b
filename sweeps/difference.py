"""What changed between two definitions of a study, in words, and whether its cells are still members of it.

Order says nothing here, and 2.0 is 2: neither changes a cell. True is not 1, and what is set later in one config wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sweeps.definition import Study, from_definition
from sweeps.space import Dimension, Range, is_among
from syncvis.config import RunConfig

Tree = Mapping[str, Any]
_MISSING = object()


def difference(old: Tree, new: Tree) -> list[str]:
    """One line per change from one definition to another; none where every cell and the search stay as they are.

    Title, question, claims and the file's place do not count, nor does a default that is now written out, the order of
    axes, values and seeds, or another way to write a number.

    Raises:
        StorageError: One of them is no definition.
    """
    before, after = from_definition(old), from_definition(new)
    return [
        *_axes(before.axes, after.axes),
        *_members("seed", before.seeds, after.seeds),
        *_tree("base", _meaning(before.base), _meaning(after.base)),
        *_tree("", {"search": _search(before)}, {"search": _search(after)}),
    ]


def extends(old: Tree, new: Tree) -> bool:
    """Whether every cell of the old definition is one of the new, at the same point; its place may change.

    A range whose numbers are drawn in another way (``log``) does not extend the old one: it adds nothing.

    Raises:
        StorageError: One of them is no definition.
    """
    before, after = from_definition(old), from_definition(new)
    known = {axis.name: axis for axis in before.axes}
    kept = {axis.name for axis in after.axes if axis.name in known}
    return (
        kept == known.keys()
        and not _order_matters(before.axes, after.axes)
        and set(before.seeds) <= set(after.seeds)
        and _text(_meaning(before.base)) == _text(_meaning(after.base))
        and all(
            _still_holds(known[axis.name], axis, known) if axis.name in known else _only_elsewhere(axis, known)
            for axis in after.axes
        )
    )


def draws_alike(old: Tree, new: Tree) -> bool:
    """Whether every range that is in both is drawn on the same scale, so that old and new cells are of one kind.

    Raises:
        StorageError: One of them is no definition.
    """
    before = {axis.name: axis.range for axis in from_definition(old).axes}
    pairs = [(before.get(axis.name), axis.range) for axis in from_definition(new).axes]
    return all(one is None or other is None or one.log == other.log for one, other in pairs)


def relabelled(study: Study, old: Tree) -> Study:
    """The study with the labels and values of an old definition wherever they are the same numbers.

    Raises:
        StorageError: The old one is no definition.
    """
    known = {axis.name: axis for axis in from_definition(old).axes}
    axes = tuple(_as_known(axis, known[axis.name]) if axis.name in known else axis for axis in study.axes)
    return study.model_copy(update={"axes": axes})


def _as_known(axis: Dimension, old: Dimension) -> Dimension:
    by_meaning = {(_text(point.label), _changes(point.changes)): point for point in old.points}
    points = (by_meaning.get((_text(point.label), _changes(point.changes)), point) for point in axis.points)
    same = old.range is not None and axis.range is not None and _numbers(old.range) == _numbers(axis.range)
    return axis.model_copy(update={"points": tuple(points), "range": old.range if same else axis.range})


def _still_holds(old: Dimension, new: Dimension, known: Mapping[str, Dimension]) -> bool:
    """Whether an axis still exists at the same old points, with all of its old values."""
    if old.when.keys() != new.when.keys():
        return False
    for axis, labels in new.when.items():
        among_old = [label for label in labels if known[axis].changes(label) is not None]
        if not _same_set(among_old, old.when[axis]):
            return False
    if old.range is None:
        return all(_changes(new.changes(point.label)) == _changes(point.changes) for point in old.points)
    if new.range is None or old.key != new.key or old.range.log != new.range.log:
        return False
    if _numbers(old.range) == _numbers(new.range):
        return True
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
    if _order_matters(old, new):
        was, now = ([axis.name for axis in axes if axis.name in before.keys() & after.keys()] for axes in (old, new))
        yield f"axes reordered, and they set the same key: {', '.join(was)} -> {', '.join(now)}"
    for name in before:
        if renamed.get(name, name) in after:
            yield from _axis(before[name], after[renamed.get(name, name)], renamed)


def _axis(old: Dimension, new: Dimension, renamed: Mapping[str, str]) -> Iterator[str]:
    place = f"axis {new.name}"
    conditions = {renamed.get(axis, axis): labels for axis, labels in old.when.items()}
    for axis in dict.fromkeys([*conditions, *new.when]):
        was, now = conditions.get(axis), new.when.get(axis)
        if was is None or now is None or not _same_set(was, now):
            yield f"{place} when {axis}: {_shown_labels(was)} -> {_shown_labels(now)}"
    if old.range or new.range:
        if _content(old)[1:] != _content(new)[1:]:
            yield f"{place}: {_shown(old)} -> {_shown(new)}"
        return
    before = {_text(point.label): _changes(point.changes) for point in old.points}
    after = {_text(point.label): _changes(point.changes) for point in new.points}
    by_changes = {changes: label for label, changes in after.items() if label not in before}
    names = {label: by_changes[c] for label, c in before.items() if label not in after and c in by_changes}
    yield from (f"{place}: value {label} renamed to {name}" for label, name in names.items())
    for label in before:
        if before[label] != after.get(label, before[label]):
            yield f"{place}: value {label} sets {after[label]}, not {before[label]}"
    yield from _members(f"{place}: value", [names.get(label, label) for label in before], list(after))


def _members(one: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    yield from (f"{one} {item} dropped" for item in old if item not in new)
    yield from (f"{one} {item} added" for item in new if item not in old)


def _tree(place: str, old: Tree, new: Tree, above: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _tree(place, one, other, f"{above}{key}.")
        elif _text(one) != _text(other):
            yield f"{place} {above}{key}: {_text(one)} -> {_text(other)}".strip()


def _order_matters(old: Sequence[Dimension], new: Sequence[Dimension]) -> bool:
    """Whether two axes that are in both changed places and set the same key, or one inside of the other's."""
    known = {axis.name: axis for axis in old}
    places = {axis.name: place for place, axis in enumerate(new)}
    kept = [name for name in known if name in places]
    return any(
        places[one] > places[other] and _overlap(_keys(known[one]), _keys(known[other]))
        for place, one in enumerate(kept)
        for other in kept[place + 1 :]
    )


def _keys(axis: Dimension) -> set[str]:
    """The dotted keys that an axis sets."""
    return {key for point in axis.points for key, _ in point.changes} | ({axis.key} if axis.key else set())


def _overlap(one: Iterable[str], other: Iterable[str]) -> bool:
    return any(f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.") for a in one for b in other)


def _changes(changes: Sequence[tuple[str, Any]] | None) -> str:
    """What a point sets, as text that is equal for equal configs: in order of the keys where that does not matter."""
    if changes is None:
        return _text(None)
    pairs = [list(pair) for pair in changes]
    keys = [key for key, _ in changes]
    free = not any(_overlap([key], keys[place + 1 :]) for place, key in enumerate(keys))
    return _text(sorted(pairs, key=lambda pair: pair[0]) if free else pairs)


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
    points = frozenset((_text(point.label), _changes(point.changes)) for point in axis.points)
    return points, axis.key if axis.range else None, _numbers(axis.range) if axis.range else None


def _numbers(of: Range) -> tuple[Any, ...]:
    """What makes a range: steps from a first number to a last one; or 1 to 16, and 1.0 to 16.0, which has no end."""
    return (of.low, of.last, of.step, of.log) if of.step else (of.low, of.high, of.whole, of.log)


def _shown(axis: Dimension) -> str:
    if axis.range is None:
        return f"values {', '.join(_text(point.label) for point in axis.points)}"
    numbers = axis.range
    step = f" in steps of {numbers.step}" if numbers.step else ""
    kind = "whole numbers" if numbers.whole else "numbers"
    scale = "logarithmic" if numbers.log else "linear"
    return f"{axis.key} in {kind} from {numbers.low} to {numbers.high}{step} ({scale})"


def _shown_labels(labels: Sequence[Any] | None) -> str:
    return "not set" if labels is None else _text(list(labels))


def _same_set(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return all(is_among(label, other) for label in one) and all(is_among(label, one) for label in other)


def _text(value: Any) -> str:
    """JSON in which equal numbers are equal and the order of keys does not matter."""
    return "not set" if value is _MISSING else json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
