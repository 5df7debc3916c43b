"""Imported first by the process that forks the trials: what happens to others must not end it.

SLURM and terminals signal every process of a job. The trials stop on these signals; the process they are forked from
has nothing to stop, but their exit codes are lost with it. A trial forked a moment ago has the same handlers, so that
no signal to it is lost before it begins. The training is imported here once for all of them; where its code is at fault
the trial finds that out again, and says so.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

from sweeps.trial import PRELOAD_VARIABLE, note_signals

note_signals()
for _name in os.environ.get(PRELOAD_VARIABLE, "").split():
    with suppress(Exception):
        importlib.import_module(_name)
