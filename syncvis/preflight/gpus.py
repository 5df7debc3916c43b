"""A look at the number of GPUs."""

from __future__ import annotations

from syncvis.errors import ConfigError
from syncvis.preflight.findings import Problem


def look_at_gpus(needed: int, found: int) -> list[Problem]:
    """Too few GPUs on this machine for one run, or one trial of a sweep."""
    if found >= needed:
        return []
    fix = (
        "start it where they are, by SLURM or Ray (docs/placement.md); or use fewer and raise train.accumulate, which "
        "keeps the batch; or use none with --device cpu"
    )
    return [Problem("GPUs", ConfigError(f"{found} of {needed}", fix=fix), "absent")]
