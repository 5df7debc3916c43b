"""Imported first by the process that forks the trials: signals to the whole process group must not end it.

SLURM and terminals signal every process of a job. The trials stop on these signals; the process they are forked from
has nothing to stop, but their exit codes are lost with it. A trial forked a moment ago has the same handlers, so that
no signal to it is lost before it begins.
"""

from __future__ import annotations

from sweeps.trial import note_signals

note_signals()
