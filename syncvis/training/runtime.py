"""How a run is carried out; nothing of it changes a result on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from syncvis.training.log import Listener


@dataclass(frozen=True)
class Runtime:
    """How a run is carried out; nothing here changes a result on the CPU.

    Attributes:
        device: "cpu" or "cuda"; of several processes, that of this one ("cuda:1").
        loader_workers: processes that prepare batches; 0 prepares them in this one.
        threads: CPU threads of this process.
        progress: show a progress bar.
        checkpoint_activations: less memory for more time, see :mod:`syncvis.training.activations`.
        deterministic: the same bits every time also on a GPU, or an error.
        keep_source: write what is not committed of the source into the run folder; a sweep keeps it in its ledger.
        should_stop: asked after each step; True ends the run with a checkpoint.
        on_row: told every row of metrics.jsonl with the number of its line, from 0, in the first process. When a run is
            continued or was finished before, the rows that are there come again first, so that one who missed some
            gets them; a line that a continued run writes anew comes with its old number.
    """

    device: str = "cpu"
    loader_workers: int = 0
    threads: int = 1
    progress: bool = False
    checkpoint_activations: bool = False
    deterministic: bool = False
    keep_source: bool = False
    should_stop: Callable[[], bool] | None = None
    on_row: Listener | None = None
