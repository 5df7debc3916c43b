"""The source code of this process: a fingerprint of it, and what of it no commit holds, so that it can be had back.

Modules of one's own that a run uses are part of its code, see :mod:`syncvis.source.plugins`.

Three things are kept apart: the code that makes the numbers (the fingerprint), the difference to the commit (a patch,
within bounds and without secrets), and what was left out of the patch, by name. The configuration is none of them: a
cell's hash identifies it.
"""

from syncvis.source.plugins import FOLDER as PLUGIN_FOLDER
from syncvis.source.repository import git
from syncvis.source.state import (
    PACKAGES,
    Source,
    code_fingerprint,
    read_patch,
    restored_fingerprint,
    snapshot,
    take,
)

__all__ = [
    "PACKAGES",
    "PLUGIN_FOLDER",
    "Source",
    "code_fingerprint",
    "git",
    "read_patch",
    "restored_fingerprint",
    "snapshot",
    "take",
]
