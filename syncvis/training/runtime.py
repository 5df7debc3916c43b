"""How a run is carried out, and who is told about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from syncvis.execution import Execution
from syncvis.training.log import Listener


@dataclass(frozen=True)
class Runtime(Execution):
    """An :class:`Execution`, and the links of a run to whoever carries it out.

    Attributes:
        progress: show a progress bar.
        keep_source: write what is not committed of the source into the run folder; a sweep keeps it in its ledger.
        should_stop: asked after each step; True ends the run with a checkpoint.
        on_row: told every row of metrics.jsonl with the number of its line, from 0, in the first process. When a run is
            continued or was finished before, the rows that are there come again first, so that one who missed some
            gets them; a line that a continued run writes anew comes with its old number.
    """

    progress: bool = False
    keep_source: bool = False
    should_stop: Callable[[], bool] | None = None
    on_row: Listener | None = None
