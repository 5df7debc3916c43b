"""Imported after the training by the process that forks the trials: what they run is the source as it is now.

Files that change later change none of the modules that this process has, so its trials take the state from here.
"""

from __future__ import annotations

from syncvis.references import allowed
from syncvis.source import snapshot

snapshot(allowed())
