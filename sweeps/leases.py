"""Leases of a SQLite ledger that count on the clock of another machine.

A job of SLURM that holds a node and is queued again goes on with its file on another one. A lease counts on the clock
of the machine that gave it, which says nothing here: it is watched, and has ended when nobody renews it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.identity import ran_elsewhere

SILENCE_SECONDS = 120.0
"""How long nobody renewed a lease that has ended: eight times the interval of renewals."""


class LeasesElsewhere:
    """The leases of other machines, as one process of this machine sees them. It must ask again and again."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int, float], float] = {}

    def ended(self, running: Iterable[Mapping[Any, Any]], clock: float) -> set[str]:
        """Hashes of the cells whose lease has stood still for ``SILENCE_SECONDS``.

        Args:
            running: all running cells.
            clock: seconds on this machine's clock since its start.
        """
        seen = [
            (row["cell_hash"], row["attempt"], row["lease_until"]) for row in running if ran_elsewhere(row["worker"])
        ]
        self._since = {lease: self._since.get(lease, clock) for lease in seen}
        return {cell for (cell, _, _), since in self._since.items() if clock - since > SILENCE_SECONDS}
