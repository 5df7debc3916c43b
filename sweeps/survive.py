"""Imported first by the process that forks the trials: what happens to others must not end it.

SLURM and terminals signal every process of a job. The trials stop on these signals; the process they are forked from
has nothing to stop, but their exit codes are lost with it. A trial forked a moment ago has the same handlers, so that
no signal to it is lost before it begins. The training, and the modules of one's own that the worker allows, are
imported here once for all of them; where their code is at fault the trial finds that out again, and says so.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

from sweeps.signals import note_signals
from sweeps.trial import PLUGINS_VARIABLE, PRELOAD_VARIABLE
from syncvis.errors import ConfigError
from syncvis.references import allow, allowed

note_signals()
_plugins = os.environ.get(PLUGINS_VARIABLE, "").split()
for _name in _plugins:
    with suppress(ConfigError):  # its file is gone
        allow([_name])
for _name in [*os.environ.get(PRELOAD_VARIABLE, "").split(), *allowed()]:
    with suppress(Exception):
        importlib.import_module(_name)
