"""Mending: apply the edits that findings carry, until none is left that can be mended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syncvis.data.check.checking import Settings, check_tree, frames_folder, parse
from syncvis.data.check.findings import Edit, Finding, Report
from syncvis.data.check.images import FrameLooker
from syncvis.errors import DataError, StorageError
from syncvis.files import write_text

# A mended size lets masks be read, whose boxes are mended next, ...: a handful of rounds at most.
MAX_ROUNDS = 10


@dataclass(frozen=True)
class Fixed:
    """What was found in the file, all that was mended (also what came to light on the way), what the new file has."""

    before: Report
    mended: tuple[Finding, ...]
    remains: Report


def fix_file(source: Path, out: Path, settings: Settings) -> Fixed:
    """Write a mended copy of a JSON file.

    Raises:
        DataError: The file cannot be read as a JSON object.
        StorageError: ``out`` exists already, or cannot be written.
    """
    if out.exists():
        raise StorageError("the file exists already", file=out, fix="give --fix a new file")
    raw = parse(source)
    looker = FrameLooker(frames_folder(source, settings.frames, raw), settings.deep)
    if not isinstance(raw, dict):
        raise DataError("is not a JSON object, so nothing in it can be mended", file=source, fix="copy the file again")
    fixed = _fix(raw, source, looker, settings)
    write_text(out, _dump(raw, source))
    return replace(fixed, remains=replace(fixed.remains, source=out))


def _fix(raw: Any, source: Path, looker: FrameLooker, settings: Settings) -> Fixed:
    before = report = check_tree(raw, source, looker, settings.watch)
    mended: list[Finding] = []
    for _ in range(MAX_ROUNDS):
        mendable = [finding for finding in report.findings if finding.mend]
        if not mendable:
            break
        apply(raw, [edit for finding in mendable if finding.mend for edit in finding.mend.edits])
        mended += mendable
        report = check_tree(raw, source, looker, settings.watch)
    return Fixed(before, tuple(mended), report)


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
