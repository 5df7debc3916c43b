"""What stands in the way of a run, and what is good to know before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from syncvis.errors import WorkbenchError


@dataclass(frozen=True)
class Problem:
    """Something that would stop a run.

    Attributes:
        what: what it is a problem of: "initial weights".
        error: as the run raises it.
        is_absent: the whole data set, or a file beside it, is only not on this machine, but perhaps where the run takes
            place.
    """

    what: str
    error: WorkbenchError
    is_absent: bool = False


@dataclass(frozen=True)
class Findings:
    """Problems, worst for the run first, and notes."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def wrong(self) -> Findings:
        """Without what is only not on this machine."""
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
