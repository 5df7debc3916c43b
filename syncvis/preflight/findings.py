"""What stands in the way of a run, and what is good to know before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from syncvis.errors import WorkbenchError

State = Literal["wrong", "missing", "absent"]
"""wrong: what is there cannot be used. missing: a file is not in the folder where it belongs, and the fix tells how it
comes there. absent: a whole data set, or a file beside it, is not on this machine, but perhaps where the run takes
place."""


@dataclass(frozen=True)
class Problem:
    """Something that would stop a run.

    Attributes:
        what: what it is a problem of: "initial weights".
        error: as the run raises it. Its fix is one step or several, "STEP; then STEP; or ALTERNATIVE", where a step is
            a sentence or a command that begins with ``syncvis``.
        state: how bad it is.
    """

    what: str
    error: WorkbenchError
    state: State = "wrong"

    @property
    def is_absent(self) -> bool:
        """Only not on this machine."""
        return self.state == "absent"


@dataclass(frozen=True)
class Findings:
    """Problems, worst for the run first, and notes."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def lacking(self) -> tuple[Problem, ...]:
        """What is not there yet, here or at all."""
        return tuple(problem for problem in self.problems if problem.state != "wrong")

    @property
    def faulty(self) -> Findings:
        """Without what is only not there yet."""
        return Findings(tuple(problem for problem in self.problems if problem.state == "wrong"), self.notes)

    @property
    def wrong(self) -> Findings:
        """Without what is only not on this machine: what stops a run on another one, too."""
        return Findings(tuple(problem for problem in self.problems if not problem.is_absent), self.notes)

    def refuse(self) -> None:
        """Raise the problems, if there are any, as one error of the kind of the first."""
        if self.problems:
            raise as_one([problem.error for problem in self.problems])


def as_one(errors: Sequence[WorkbenchError]) -> WorkbenchError:
    """The error itself, or one that lists all of them."""
    if len(errors) == 1:
        return errors[0]
    texts = [f"({number}) {error}" for number, error in enumerate(errors, 1)]
    return type(errors[0])(f"{len(errors)} problems: {'; '.join(texts)}")
