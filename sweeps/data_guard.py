"""Whether the cells of a study saw the same files (data, initial weights, texts): no table mixes different ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sweeps.database import cells, results
from sweeps.view import Keys, View, among
from syncvis.errors import DataError, StorageError
from syncvis.files import fingerprint

CHEAP_BYTES = 2**28
"""Files up to this size are read to compare them: a fraction of a second."""


def changed_data(view: View, keys: Keys = None) -> list[str]:
    """What speaks against adding to the done cells of these studies: a line for each file of which they saw another
    content than it has now, or than other done cells saw.

    Files that are not here, or very large, are only compared among the cells.
    """
    seen: dict[Path, Counter[str]] = {}
    for data, joined, number in _seen(view, keys, "data", "data_fingerprint"):
        for path, part in _files(data, joined):
            seen.setdefault(path, Counter())[part] += number
    for train, part, number in _seen(view, keys, "train", "init_fingerprint"):
        seen.setdefault(Path(train["init"]), Counter())[part] += number
    for method, part, number in _seen(view, keys, "method", "text_fingerprint"):
        seen.setdefault(Path(method["text"]), Counter())[part] += number
    return [line for path, counts in seen.items() if (line := _difference(path, counts))]


def refuse_changed_data(view: View, keys: Keys = None) -> None:
    """Raises DataError at the first of :func:`changed_data`."""
    lines = changed_data(view, keys)
    if lines:
        more = f" (and {len(lines) - 1} more files)" if len(lines) > 1 else ""
        fix = "put the old file back, or start anew with another --out (or --storage)"
        raise DataError(lines[0] + more, fix=fix)


def file_fingerprint(path: Path) -> str | None:
    """:func:`syncvis.files.fingerprint`; None if that cannot be told quickly."""
    try:
        return fingerprint(path) if path.is_file() and path.stat().st_size <= CHEAP_BYTES else None
    except (OSError, StorageError):
        return None


def data_fingerprint(data: Mapping[str, Any]) -> str | None:
    """Of a config's data as it lies here now, in the form of a result; None if a file cannot be read quickly."""
    parts = [file_fingerprint(path) for path in _paths(data)]
    return None if None in parts else "-".join(map(str, parts))


def _seen(view: View, keys: Keys, section: str, name: str) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Section of the config, fingerprint of that name in the result, and how many done cells had both."""
    given, seen = view.json_at(cells.c.config, section), view.json_at(results.c.result, name)
    pairs = sa.select(given.label("given"), seen.label("seen"), sa.func.count().label("number"))
    query = pairs.join_from(cells, results).where(among(keys)).group_by(sa.text("1"), sa.text("2"))
    for row in view.read(query):
        if row["seen"]:
            yield json.loads(row["given"]), row["seen"], row["number"]


def _paths(data: Mapping[str, Any]) -> list[Path]:
    """Annotation files in the order in which a result's fingerprint has them."""
    root = Path(data["root"])
    return [root / data["train"], root / data["valid"], *(Path(m["root"]) / m["train"] for m in data.get("mix") or ())]


def _files(data: Mapping[str, Any], joined: str) -> list[tuple[Path, str]]:
    paths, parts = _paths(data), joined.split("-")
    return list(zip(paths, parts, strict=True)) if len(paths) == len(parts) else []


def _difference(path: Path, counts: Counter[str]) -> str | None:
    now = file_fingerprint(path)
    if len(counts) == 1 and now in (None, *counts):
        return None
    seen = " and ".join(f"{number} done cells saw content {part}" for part, number in counts.most_common())
    return f"{path}: {seen}" + (f", it is {now} now" if now else "")
