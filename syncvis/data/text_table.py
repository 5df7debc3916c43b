"""Tables as text: aligned for a terminal, or Markdown. The first row is the header, the first column the names.

Names come from files: what would break a line or steer a terminal is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncvis.errors import one_line

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows) -> str:
    """Columns two spaces apart, all but the first to the right."""
    rows = _plain(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "  ".join(cells).rstrip()


def markdown(rows: Rows) -> str:
    """A table of GitHub's Markdown."""
    header, *body = _plain(rows)
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (header, rule, *body)
    )


def _plain(rows: Rows) -> list[list[str]]:
    return [[one_line(cell) for cell in row] for row in rows]
