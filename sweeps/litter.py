"""What an output tree no longer needs: resume points of ended trials, what killed processes left, unknown folders."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeps.view import View
from syncvis.files import is_alive, writer_of

Kind = Literal[
    "resume points of trials that are done or pruned",
    "temporary files of dead processes",
    "W&B runs that were begun anew",
    "run folders of no trial",
]
RESUME_POINTS = ("checkpoint.pt", "checkpoint.previous.pt")
QUIET_SECONDS = 3600.0
"""A temporary file that nobody has written to for so long: its process may be one of another machine."""
_WANDB = re.compile(r"(?:offline-)?run-\d+_\d+-(\w+)")
_HASH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Litter:
    """A file or folder that can go, and its bytes."""

    kind: Kind
    path: Path
    size: int

    def remove(self) -> None:
        """Raises OSError if that fails; what is gone already is fine."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def find_litter(view: View, out: Path) -> list[Litter]:
    """All but unknown run folders; nothing of a trial that is planned, running or given up, no weights, no result."""
    return [*_resume_points(view), *_temporary_files(out), *_wandb_duplicates(out / "wandb")]


def find_orphans(views: list[View], out: Path) -> list[Litter]:
    """Folders in ``out/runs`` that are named like a cell of none of these ledgers."""
    folders = [path for path in _folders(out / "runs") if _HASH.fullmatch(path.name)]
    known = {row["cell_hash"] for view in views for row in view.cells()}  # read last: a cell comes before its folder
    return [_litter("run folders of no trial", path) for path in folders if path.name not in known]


def _resume_points(view: View) -> Iterator[Litter]:
    for row in view.cells(states=("done", "pruned")):
        folder = Path(row["run_dir"])
        if row["state"] == "done" and not (folder / "result.json").exists():
            continue  # not this machine's folder, or another ledger's trial
        for path in (folder / name for name in RESUME_POINTS):
            if path.is_file():
                yield _litter("resume points of trials that are done or pruned", path)


def _temporary_files(out: Path) -> Iterator[Litter]:
    before = time.time() - QUIET_SECONDS
    for folder, _, names in os.walk(out):
        for name in names:
            path = Path(folder, name)
            writer = writer_of(path)
            if writer is not None and not is_alive(writer) and path.lstat().st_mtime < before:
                yield _litter("temporary files of dead processes", path)


def _wandb_duplicates(folder: Path) -> Iterator[Litter]:
    """Of several folders of one run, all but the newest: the mirror builds an incomplete run anew."""
    runs: dict[str, list[Path]] = {}
    for path in sorted(_folders(folder)):
        if match := _WANDB.fullmatch(path.name):
            runs.setdefault(match[1], []).append(path)
    for paths in runs.values():
        yield from (_litter("W&B runs that were begun anew", path) for path in paths[:-1])


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]


def _litter(kind: Kind, path: Path) -> Litter:
    if not path.is_dir():
        return Litter(kind, path, path.lstat().st_size)
    sizes = (Path(folder, name).lstat().st_size for folder, _, names in os.walk(path) for name in names)
    return Litter(kind, path, sum(sizes))
