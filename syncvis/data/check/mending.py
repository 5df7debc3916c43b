"""Mending: apply the edits that findings carry, until none is left that can be mended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syncvis.data.check.checking import Settings, check_tree, frames_folder, parse
from syncvis.data.check.findings import Edit, Finding, Report, dropped_entries
from syncvis.data.check.images import FrameLooker
from syncvis.data.formats import recognise
from syncvis.errors import DataError, StorageError
from syncvis.files import write_text

# A mended size lets masks be read, whose boxes are mended next, ...: a handful of rounds at most.
MAX_ROUNDS = 20


@dataclass(frozen=True)
class Fixed:
    """What was found in the file, all that was mended (also what came to light on the way), what the new file has.

    Attributes:
        dropped: entries of each list that are not in the new file.
    """

    before: Report
    mended: tuple[Finding, ...]
    remains: Report
    dropped: Mapping[str, int]


def fix_file(source: Path, out: Path, settings: Settings, drop: bool = False) -> Fixed:
    """Write a mended copy of a JSON file.

    Args:
        drop: Also drop entries that cannot be mended, such as annotations of no video; else every entry is kept.

    Raises:
        DataError: The file cannot be read as a JSON object, is in another format, or would end without annotations or
            videos.
        StorageError: ``out`` exists already, or cannot be written.
    """
    if out.exists():
        raise StorageError("the file exists already", file=out, fix="give --fix a new file")
    raw = parse(source)
    if known := recognise(raw):
        raise DataError(f"is {known.name}; nothing is written", file=source, fix=known.fix)
    if not isinstance(raw, dict):
        raise DataError("is not a JSON object, so nothing in it can be mended", file=source, fix="copy the file again")
    looker = FrameLooker(frames_folder(source, settings.frames, raw), settings.deep)
    lengths = _lengths(raw)
    fixed = _fix(raw, source, looker, settings, drop)
    if emptied := [name for name, length in _lengths(raw).items() if lengths.get(name) and not length]:
        problem = f"would end without {' and '.join(emptied)}: all {lengths[emptied[0]]} would be dropped"
        raise DataError(problem, file=source, fix="look at what is wrong with them; nothing is written")
    write_text(out, _dump(raw, source))
    return replace(fixed, remains=replace(fixed.remains, source=out))


def _lengths(raw: Any) -> dict[str, int]:
    """How many entries the lists have that must not become empty."""
    return {name: len(raw[name]) for name in ("videos", "images", "annotations") if isinstance(raw.get(name), list)}


def _fix(raw: Any, source: Path, looker: FrameLooker, settings: Settings, drop: bool) -> Fixed:
    """Mend until nothing is left to mend, drop, and so on: nothing is dropped that could be mended."""
    before = report = check_tree(raw, source, looker, settings.watch)
    mended: list[Finding] = []
    dropped: Counter[str] = Counter()
    for _ in range(MAX_ROUNDS):
        lossless, lossy = _mendable(report, False), _mendable(report, True)
        found = lossless or (lossy if drop else [])
        if not found:
            break
        edits = [edit for finding in found if finding.mend for edit in finding.mend.edits]
        dropped.update(dropped_entries(edits))
        apply(raw, edits)
        mended += found
        report = check_tree(raw, source, looker, settings.watch)
    return Fixed(before, tuple(mended), report, dropped)


def _mendable(report: Report, drops: bool) -> list[Finding]:
    return [finding for finding in report.findings if finding.mend and finding.mend.drops == drops]


def apply(raw: Any, edits: Iterable[Edit]) -> None:
    """Change a JSON tree in place: first every new value, then every drop, from the back."""
    edits = list(edits)
    for edit in edits:
        if not edit.drop:
            _parent(raw, edit)[edit.path[-1]] = edit.value
    for path in sorted({edit.path for edit in edits if edit.drop}, key=lambda path: path[-1], reverse=True):
        del _parent(raw, Edit(path))[path[-1]]


def _parent(raw: Any, edit: Edit) -> Any:
    for step in edit.path[:-1]:
        raw = raw[step]
    return raw


def _dump(raw: Any, source: Path) -> str:
    try:
        return json.dumps(raw) + "\n"
    except RecursionError:
        raise DataError("the JSON is nested too deeply to be written", file=source, fix="copy the file again") from None
