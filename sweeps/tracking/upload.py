"""Sending runs that were written offline to the server, through ``wandb sync``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeps.tracking.environment import wandb_environment
from sweeps.tracking.notes import Notes
from sweeps.tracking.processes import kill_with_service
from syncvis.errors import WorkbenchError

BATCH = 10
SECONDS_PER_RUN = 60.0
LOG = "sync.log"


def upload(
    folder: Path, seconds_per_run: float = SECONDS_PER_RUN, told: Callable[[int, int], None] = lambda n, total: None
) -> int:
    """Send every complete run that the server does not have; returns how many these were.

    What was sent is noted at once, so that a call that breaks off is continued by the next one.

    Args:
        folder: ``outputs/wandb``.
        told: called after each batch with how many are sent, of how many.

    Raises:
        WorkbenchError: ``wandb sync`` failed or took too long: no login, no network.
    """
    notes = Notes(folder)
    waiting = [(name, note) for name, note in notes.to_upload().items() if (folder / note.folder).is_dir()]
    for first in range(0, len(waiting), BATCH):
        batch = waiting[first : first + BATCH]
        _sync(folder, [folder / note.folder for _, note in batch], seconds_per_run)
        for cell_hash, note in batch:
            notes.add("synced", cell_hash, run=note.run)
        told(first + len(batch), len(waiting))
    return len(waiting)


def command(runs: Sequence[Path]) -> list[str]:
    """``wandb sync`` of some run folders."""
    program = shutil.which("wandb")
    return [*([program] if program else [sys.executable, "-m", "wandb"]), "sync", *map(str, runs)]


def _sync(folder: Path, runs: Sequence[Path], seconds_per_run: float) -> None:
    log = folder / LOG
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(runs),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=wandb_environment(folder, "online"),
            process_group=0,
        )
        limit = seconds_per_run * len(runs)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            problem = f"the W&B server did not take {len(runs)} runs within {limit:.0f} seconds"
            fix = "check the network and WANDB_BASE_URL, then give the same command again"
            raise WorkbenchError(problem, file=log, fix=fix) from None
        finally:
            kill_with_service(process)
    if code != 0:
        fix = "log in with `wandb login` or WANDB_API_KEY, then give the same command again"
        raise WorkbenchError(f"wandb sync failed: {_reason(log, code)}", file=log, fix=fix)


def _reason(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:] or [f"exit code {code}"]
    return errors[-1].removeprefix("Error: ")
