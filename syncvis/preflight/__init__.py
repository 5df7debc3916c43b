"""One look at everything that a run will need, before its first step: data, frames, classes, initial weights.

Whoever trains or plans asks here: ``train``, its ``--dry-run``, ``sweep plan`` and ``sweep run``; ``eval`` asks for its
split. Torch is not needed.
"""

from syncvis.preflight.findings import Findings, Problem
from syncvis.preflight.gpus import look_at_gpus
from syncvis.preflight.listing import Missing, listed
from syncvis.preflight.look import Look, look, look_at_runs, look_at_split
from syncvis.preflight.watch import on_terminal, unwatched
from syncvis.preflight.weights import INITIAL_WEIGHTS

__all__ = [
    "INITIAL_WEIGHTS",
    "Findings",
    "Look",
    "Missing",
    "Problem",
    "listed",
    "look",
    "look_at_gpus",
    "look_at_runs",
    "look_at_split",
    "on_terminal",
    "unwatched",
]
