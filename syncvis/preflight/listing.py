"""What a machine lacks, as a list to read and to copy commands from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from syncvis.errors import one_line
from syncvis.preflight.findings import Problem

WIDTH = 80
KINDS = (
    "data set",
    "training data",
    "validation data",
    "data set to mix in",
    "initial weights",
    "class-name embeddings",
    "GPUs",
)
"""What stands first in a list: what comes later may be made from it. Other kinds stand last."""
_STEP = re.compile(r"; (?:then (?=\S)|(?=or ))")
"""What stands between the steps of a fix (:class:`syncvis.preflight.findings.Problem`)."""


@dataclass(frozen=True)
class Missing:
    """Something that this machine lacks for a run, or that is wrong.

    Attributes:
        what: what it is: "initial weights".
        problem: the place and what is wrong.
        fix: what mends it: sentences and commands in order, then alternatives.
    """

    what: str
    problem: str
    fix: str

    @classmethod
    def of(cls, problem: Problem) -> Missing:
        return cls(problem.what, problem.error.what, problem.error.fix or "")


def listed(items: Iterable[Missing], width: int = WIDTH) -> list[str]:
    """Lines with each thing, in the order of KINDS, and below it its fix, once for all things that have the same.

    A sentence is wrapped. A command stands on lines of its own; where it is longer than the width it goes on behind a
    backslash, so that it can be copied as it is.
    """
    by_fix: dict[str, list[Missing]] = {}
    for item in sorted(items, key=lambda item: KINDS.index(item.what) if item.what in KINDS else len(KINDS)):
        by_fix.setdefault(item.fix, []).append(item)
    return [line for fix, together in by_fix.items() for line in _entry(together, fix, width)]


def _entry(together: Sequence[Missing], fix: str, width: int) -> Iterator[str]:
    for item in together:
        yield from _wrapped(f"{item.what}: {item.problem}", width, "  ", "    ")
    for step in _STEP.split(one_line(fix)) if fix else ():
        if step.startswith("syncvis "):
            yield from _command(step, width)
        else:
            yield from _wrapped(step, width, "    ", "    ")


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return wrap(
        one_line(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _command(command: str, width: int) -> Iterator[str]:
    """The lines of a command, broken between its words, but not between an option and its value."""
    try:
        found = shlex.split(command)[1:]
    except ValueError:  # half of one, whose folder has a name like the end of a step
        found = command.split(" ")[1:]
    line = "syncvis"
    for words in _together(found):
        if len(f"      {line} {words} \\") > width:
            yield f"      {line} \\"
            line = f"  {words}"
        else:
            line = f"{line} {words}"
    yield f"      {line}"


def _together(words: Sequence[str]) -> Iterator[str]:
    """Words as a shell reads them; an option with the word behind it."""
    option = ""
    for word in words:
        if option and word.startswith("--"):
            yield option
        if word.startswith("--"):
            option = word
        else:
            yield f"{option} {shlex.quote(word)}".lstrip()
            option = ""
    if option:
        yield option
