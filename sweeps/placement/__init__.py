"""Where the workers of a sweep run: processes of this machine, SLURM jobs, or tasks of a Ray cluster."""

from __future__ import annotations

from typing import Protocol


class Placement(Protocol):
    """Workers somewhere. What they do with cells is between them and the ledger, which makes running twice harmless."""

    @property
    def where(self) -> str:
        """How many workers there are, as what, and what they listen on; for people."""
        ...

    def tend(self) -> bool:
        """Replace workers that died; False once nothing more will happen.

        Raises:
            WorkbenchError: They die before they take a cell, or were all taken away.
        """
        ...

    def alive(self) -> bool:
        """Whether a worker still works; starts none."""
        ...

    def stop(self) -> None:
        """Ask all workers to store a checkpoint, give their cells back and end; may be asked again and again."""
        ...

    def kill(self) -> None:
        """End what is left at once; called in the end of every sweep. Others give its cells back."""
        ...
