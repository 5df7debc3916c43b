"""Which states of the source some cells were trained with, and how a caption names them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class State:
    """One state of the source.

    Attributes:
        name: its commits, and a digest where there were uncommitted changes.
        cells: how many cells were trained with it.
    """

    name: str
    cells: int


def source_states(done: pd.DataFrame) -> list[State]:
    """The states behind finished cells (as in :class:`~analysis.trials.Trials`), the most frequent first.

    The fingerprint of the code tells them apart, so that notes, data and documentation do not: commits that differ in
    nothing else are one state. A record of an older version has only the commit and the sum of all changes.
    """
    groups: dict[Any, list[dict[Any, Any]]] = {}
    for row in done.to_dict("records"):
        groups.setdefault(_key(row), []).append(row)
    states = [State(_name(rows), len(rows)) for rows in groups.values()]
    return sorted(states, key=lambda state: (-state.cells, state.name))


def sources_text(done: pd.DataFrame) -> str:
    """``Commit 0123456789.``, or a warning that names each state with the number of its cells."""
    states = source_states(done)
    if not states:
        return ""
    begun = int(done["begun_elsewhere"].sum())
    text = f"Commit {states[0].name}."
    if len(states) > 1:
        named = ", ".join(f"{state.name} ({cells_text(state.cells)})" for state in states)
        text = f"Mixes {len(states)} states of the source: {named}; a difference may be one of the code."
    text = " ".join([text, *_plugins(done)])
    if begun:
        text += f" {cells_text(begun)} began with another source, in an earlier attempt."
    return text


def _plugins(done: pd.DataFrame) -> Iterator[str]:
    """A sentence for each file of one's own: with several states of it, a warning."""
    files: dict[str, Counter[str]] = {}
    for text in done["plugins"]:
        for file, digest in json.loads(text).items():
            files.setdefault(file, Counter())[digest[:8]] += 1
    for file, states in sorted(files.items()):
        named = ", ".join(f"{digest} ({cells_text(cells)})" for digest, cells in states.most_common())
        if len(states) == 1:
            yield f"Code from outside: {file} {named}."
        else:
            yield f"Mixes {len(states)} states of {file}: {named}; a difference may be one of the code."


def commits_text(done: pd.DataFrame) -> str:
    """The names of the states alone."""
    return ", ".join(state.name for state in source_states(done)) or "unknown"


def state_name(row: dict[Any, Any]) -> str:
    """The state of one finished cell."""
    return _name([row])


def cells_text(number: int) -> str:
    return f"{number} cell{'' if number == 1 else 's'}"


def _key(row: dict[Any, Any]) -> Any:
    code = _text(row["source"])
    return code if code else (_text(row["commit"]), row["dirty"] is True, _text(row["diff"]))


def _name(rows: list[dict[Any, Any]]) -> str:
    """Of cells with one state."""
    commits = " = ".join(dict.fromkeys(sorted(_text(row["commit"])[:10] for row in rows))) or "unknown"
    code, row = _text(rows[0]["source"]), rows[0]
    if not code:
        short = _text(row["diff"])[:8]
        return commits + (f" with uncommitted changes{f' {short}' if short else ''}" if row["dirty"] is True else "")
    changed = " with uncommitted changes" if any(row["changed"] for row in rows) else ""
    return f"{commits}{changed} (source {code[:8]})" if changed or commits == "unknown" else commits


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
