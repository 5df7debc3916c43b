"""Data that are not on this machine, and how to get them."""

from __future__ import annotations

from syncvis.errors import DataError
from syncvis.preflight.findings import Problem
from syncvis.preflight.splits import Part

SPLIT_NAMES = ("train_split.json", "valid_split.json")
"""What ``syncvis data split`` writes."""


def absent(part: Part) -> Problem | None:
    """A problem if the folder of a part is not on this machine, or the JSON file not in it."""
    if not part.root.is_dir():
        mixed = part.key.startswith("data.mix")
        key, what = (part.key, part.what) if mixed else ("data.root", "data set")
        error = DataError("there is no such folder", file=part.root, key=key, fix=_get(part))
        return Problem(what, error, is_absent=True)
    if not part.source.exists():
        return Problem(part.what, DataError("there is no such file", file=part.source, key=part.key, fix=_divide(part)))
    return None


def _get(part: Part) -> str:
    if part.key.startswith("data.mix"):
        return "put the data set there, or leave it out with data.mix=[]"
    if "synth" in part.root.name:
        return f"make it: syncvis data synth {part.root}"
    return "put the data set there, or set data.root=FOLDER"


def _divide(part: Part) -> str:
    """How to come to a JSON file in a folder that is there."""
    if part.key.startswith("data.mix"):
        return "correct the file's name, or leave the data set out with data.mix=[]"
    here = sorted(path.name for path in part.root.glob("*.json"))
    beside = "train.json" if "train.json" in here else "../train.json"
    given = f"{part.key}=FILE" + (f" (there: {', '.join(here[:5])})" if here else "")
    if "synth" in part.root.name and part.name in ("train.json", "valid.json", "test.json") and not here:
        return f"make it: syncvis data synth {part.root}"
    if part.name in SPLIT_NAMES:
        return f"cut the labelled videos in two: syncvis data split {part.root} --split {beside}; or set {given}"
    names = "--out-train FILE --out-valid FILE"
    return f"set {given}, or cut a labelled file in two: syncvis data split {part.root} --split FILE {names}"
