"""How labels of axes and numbers of seeds are written, also where an axis does not exist or a seed is missing."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.experiments import Label

EMPTY = "–"
MARK = "†"


def label_text(value: Label | None) -> str:
    """One label; a dash where there is no such axis."""
    if value is None:
        return EMPTY
    return str(value).lower() if isinstance(value, bool) else str(value)


def labels_text(labels: Mapping[str, Label | None], bare: bool = False) -> str:
    """``Nk = 10, momentum = 0.05`` of the axes that exist there, ``all`` without any.

    Args:
        bare: write the value alone where the table has only one axis.
    """
    if bare and len(labels) == 1:
        return label_text(next(iter(labels.values())))
    return ", ".join(f"{axis} = {label_text(label)}" for axis, label in labels.items() if label is not None) or "all"


def count_text(n: int, planned: int) -> str:
    """``n=3/3``, and ``n=2/3†`` where a seed is missing."""
    return f"n={n}/{planned}{MARK if n < planned else ''}"
