"""Counts of a mask in a wrong spelling, as exports without a decode() or with one escape too many write them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

Reading = tuple[str, Any]
"""What the spelling is, and the counts that it may stand for."""

AS_BYTES = "the counts are Python bytes written as text"
MAX_DEPTH = 3

_QUOTED = re.compile(r"""\s*(b?)(['"])(.*)\2\s*""", re.DOTALL)
_NUMBERS = re.compile(r"\s*+[\[(]?+\s*+\d{1,18}+(?:[\s,]++\d{1,18}+)++[\s,]*+[\])]?+\s*+", re.ASCII)
_WHOLE = re.compile(r"\s*+(\d{1,18}+)(?:\.0*+)?+\s*+", re.ASCII)


def misspelling(counts: Any) -> str | None:
    """What a wrong spelling is, in words; None for one that is not known. It need not stand for a mask."""
    return next((name for name, _ in readings(counts)), None)


def readings(counts: Any, depth: int = MAX_DEPTH) -> Iterator[Reading]:
    """What wrongly spelt counts may stand for: compressed text or a list of integers; none of it is checked."""
    found = _of_text(counts) if isinstance(counts, str) else _of_list(counts) if isinstance(counts, list) else ()
    for name, inner in found:
        yield name, inner
        if depth > 1:
            yield from ((name, deeper) for _, deeper in readings(inner, depth - 1))


def _of_text(counts: str) -> Iterator[Reading]:
    if match := _QUOTED.fullmatch(counts):
        yield AS_BYTES if match[1] else "the counts have quotes around them", match[3]
    elif _NUMBERS.fullmatch(counts):
        yield "the counts are a list of numbers written as text", list(map(int, re.findall(r"\d+", counts)))
    elif counts != counts.strip():
        yield "the counts have white space around them", counts.strip()
    if "\\\\" in counts:
        yield "the backslashes of the counts are doubled (escaped twice?)", counts.replace("\\\\", "\\")
    if "&" in counts:
        yield "the counts are escaped as in HTML", html.unescape(counts)


def _of_list(counts: list[Any]) -> Iterator[Reading]:
    if len(counts) == 1 and isinstance(counts[0], list):
        yield "the counts are a list inside a list", counts[0]
    elif counts and all(isinstance(run, str) for run in counts):
        runs = [_WHOLE.fullmatch(run) for run in counts]
        if all(runs):
            yield "the counts are numbers written as text", [int(match[1]) for match in runs if match]
        elif len(counts) == 1:
            yield "the counts are a text inside a list", counts[0]
    elif counts and all(type(run) in (int, float) for run in counts):
        if any(type(run) is float for run in counts):
            if all(float(run).is_integer() and abs(run) < 2**53 for run in counts):
                yield "the counts are numbers with decimal points", list(map(int, counts))
        elif all(ord("0") <= run < ord("0") + 64 for run in counts):
            yield "the counts are the bytes of a text, as numbers", bytes(counts).decode("ascii")
