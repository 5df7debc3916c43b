"""A table of studies, with as much of it as a console has room for."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

from sweeps.printing import plain

NO_NUMBER = "–"
COUNTS = ("cells", "new", "done", "pruned", "given up", "left")
_DETAILS = {"new", "pruned", "given up"}

Texts = list[str]


@dataclass(frozen=True)
class Layout:
    """Rows of texts below a header, the last one a sum; of which the console may have room for a part only."""

    header: Texts
    rows: list[Texts]

    def says_nothing(self, name: str) -> bool:
        """New cells where all are, counts of none, and rates where there are none."""
        column, cells = self._column(name), self._column("cells")
        if name in ("done", "pruned", "given up"):
            return set(column) == {"0"}
        return column == cells if name == "new" else name == "s/step" and set(column) <= {NO_NUMBER, ""}

    def without(self, names: Set[str]) -> Layout:
        """Without some of the columns."""
        kept = [index for index, name in enumerate(self.header) if name not in names]
        return Layout([self.header[index] for index in kept], [[row[index] for index in kept] for row in self.rows])

    def brief(self) -> Layout:
        """Without what stands in parentheses."""
        return Layout(self.header, [[re.sub(r" \(.*?\)", "", cell) for cell in row] for row in self.rows])

    def folded(self) -> Layout:
        """The recipe that a study stands on in a line of its own."""
        return Layout(self.header, [[row[0].replace("@", "\n@"), *row[1:]] for row in self.rows])

    def drawn(self) -> Table:
        numbers = [Column(name, no_wrap=name in COUNTS, justify="right") for name in self.header[1:]]
        found = Table(
            Column(self.header[0], overflow="fold"), *numbers, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False
        )
        for row in self.rows[:-1]:
            found.add_row(*map(plain, row))
        found.add_section()
        found.add_row(*map(plain, self.rows[-1]))
        return found

    def _column(self, name: str) -> Texts:
        index = self.header.index(name)
        return [row[index] for row in self.rows]


def fitting(whole: Layout, console: Console) -> Table:
    """All of it if there is room.

    Else columns that say nothing are left out, then names get a second line, then only what is left, the rate and what
    it costs is told.
    """
    telling = whole.without({name for name in whole.header if whole.says_nothing(name)})
    layouts = [whole, telling, telling.folded(), telling.without(_DETAILS).brief().folded()]
    drawn = [layout.drawn() for layout in layouts]
    return next((found for found in drawn if _width(found, console) <= console.width), drawn[-1])


def _width(found: Table, console: Console) -> int:
    """That it wants; a table says that it takes what there is if there is a limit."""
    return Measurement.get(console, console.options.update(width=10_000), found).maximum
