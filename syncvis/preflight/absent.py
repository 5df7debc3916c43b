"""Data that are not on this machine, and how to get them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from syncvis.errors import DataError
from syncvis.preflight.benchmarks import COCO, Benchmark, benchmark_of, labels_in
from syncvis.preflight.findings import Problem, State
from syncvis.preflight.splits import Part

SPLIT_NAMES = ("train_split.json", "valid_split.json")
"""What ``syncvis data split`` writes."""

VALID_SHARE = "0.2"

LEAVE_OUT = "leave it out with data.mix=[]"


def absent(part: Part) -> Problem | None:
    """A problem if the folder of a part is not on this machine, or the JSON file not in it."""
    if not part.root.is_dir():
        key, what = (part.key, part.what) if part.is_mixed else ("data.root", "data set")
        error = DataError("there is no such folder", file=part.root, key=key, fix=_folder(part))
        return Problem(what, error, "absent")
    if not part.source.exists():
        fix, state = _file(part)
        return Problem(part.what, DataError("there is no such file", file=part.source, key=part.key, fix=fix), state)
    return None


def _folder(part: Part) -> str:
    """How to come to a data set whose folder is not there."""
    other = LEAVE_OUT if part.is_mixed else "set data.root=FOLDER"
    if "synth" in part.root.name:
        return f"{_command('synth', part.root)}; or {other}"
    known = _known(part)
    if known is None:
        return f"put the data set there; or {other}"
    if part.is_mixed and part.name not in SPLIT_NAMES:
        return f"{known.get(part.root)}; or {other}"
    return f"{known.get(part.root)}; then {_published_split(known, part.root)}; or {other}"


def _file(part: Part) -> tuple[str, State]:
    """How to come to a JSON file whose folder is there."""
    root, other = part.root, LEAVE_OUT if part.is_mixed else f"set {part.key}=FILE"
    labels, known = labels_in(root), _known(part)
    if part.name in SPLIT_NAMES:
        other = LEAVE_OUT if part.is_mixed else "name files of your own with data.train and data.valid"
        return f"{_parts(root, labels, known)}; or {other}", "missing"
    here = sorted(path.name for path in root.glob("*.json"))
    if "synth" in root.name and part.name in ("train.json", "valid.json", "test.json") and not here:
        return f"{_command('synth', root)}; or {other}", "missing"
    if known is not None and labels is None and part.key != "data.valid":
        return f"{known.get(root, os.path.normpath(part.source))}; or {other}", "missing"
    if part.is_mixed:
        return f"correct the file's name; or {other}", "wrong"
    there = f" (there: {', '.join(here[:5])})" if here else ""
    cut = _command("split", root, "--split", labels or "FILE", "--out-train", "FILE", "--out-valid", "FILE")
    return f"{other}{there}; or cut a labelled file in two: {cut}", "wrong"


def _parts(root: Path, labels: str | None, known: Benchmark | None) -> str:
    """How to come to the two parts of a training set."""
    if labels is not None:
        return _split(root, labels)
    if known is not None:
        return f"{known.get(root)}; then {_published_split(known, root)}"
    put = f"put the annotations of the training set, YouTube-VIS JSON, as {root / 'train.json'}"
    return f"{put}; then {_split(root, 'train.json')}"


def _known(part: Part) -> Benchmark | None:
    return COCO if part.name == COCO.labels else benchmark_of(part.root)


def _published_split(known: Benchmark, root: Path) -> str:
    return _split(root, os.path.relpath(known.places(root)[1], root))


def _split(root: Path, labels: str) -> str:
    """The command that makes both files of SPLIT_NAMES; it replaces what is left of an earlier pair."""
    force = ("--force",) if any((root / name).exists() for name in SPLIT_NAMES) else ()
    return _command("split", root, "--split", labels, "--valid", VALID_SHARE, *force)


def _command(name: str, root: Path, *words: str) -> str:
    return shlex.join(["syncvis", "data", name, str(root), *words])
