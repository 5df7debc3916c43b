"""``syncvis sweep gc``: free the disk of what no trial needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from sweeps.commands.options import OUT, PATIENCE_SECONDS, Out, Storage, open_ledger
from sweeps.ledger import Ledger
from sweeps.litter import Litter, find_litter, find_orphans
from sweeps.printing import say
from sweeps.view import View
from syncvis.errors import StorageError


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also run folders of no trial, results and all.")] = False,
    out: Out = OUT,
    storage: Storage = None,
) -> None:
    """Find resume points of ended trials and what killed processes left; --yes deletes them.

    Weights, results and logs stay, and all of trials that are planned, running or given up.
    """
    view, console = open_ledger(out, storage).view, Console()
    found = find_litter(view, out)
    if orphans:
        found += find_orphans(_all_ledgers(view, out, storage), out)
    for kind in dict.fromkeys(one.kind for one in found):
        mine = [one for one in found if one.kind == kind]
        say(console, f"{kind}: {len(mine)}, {_size(mine)}")
        say(console, "\n".join(f"  {one.path}" for one in mine))
    failed = _remove(found) if yes else []
    word = "deleted" if yes else "would be deleted; --yes does it"
    say(console, f"{_size([one for one in found if one not in failed])} {word}")
    if failed:
        raise StorageError("could not be deleted", file=failed[0].path, fix="mend the folder's rights")


def _all_ledgers(view: View, out: Path, storage: str | None) -> list[View]:
    """Also the file beside the folders, where the ledger that was named is another: its trials are none's orphans."""
    file = out / "ledger.db"
    if storage is None or not file.exists():
        return [view]
    return [view, Ledger(file, PATIENCE_SECONDS).view]


def _remove(found: Sequence[Litter]) -> list[Litter]:
    """Delete all that can be; returns the rest."""
    failed = []
    for one in found:
        try:
            one.remove()
        except OSError:
            failed.append(one)
    return failed


def _size(found: Sequence[Litter]) -> str:
    size = sum(one.size for one in found)
    return f"{size:,} bytes" + (f" ({decimal(size)})" if size >= 1000 else "")
