"""``syncvis sweep sync``: bring W&B up to date with the ledger, with or without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.ledger import Ledger
from sweeps.tracking.environment import LOG
from sweeps.tracking.notes import Notes, number_waiting, only_mirror
from sweeps.tracking.process import MirrorProcess
from sweeps.tracking.upload import SECONDS_PER_RUN, upload
from sweeps.view import Keys, StudyKey
from sweeps.worker import STORAGE_VARIABLE
from syncvis.errors import StorageError

PATIENCE_SECONDS = 10.0


def sync(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY...", help="As nk-small; default: all.")] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("outputs"),
    storage: Annotated[
        str | None, typer.Option(envvar=STORAGE_VARIABLE, help="postgresql://...; default: OUT/ledger.db.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make all W&B runs anew from the ledger.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="With references to the weights.")] = False,
    upload_runs: Annotated[bool, typer.Option("--upload/--no-upload", help="Send them to the server.")] = True,
    seconds: Annotated[float, typer.Option(min=1, help="How long the copying may take.")] = 3600.0,
    seconds_per_run: Annotated[float, typer.Option(min=1, help="How long the server may take.")] = SECONDS_PER_RUN,
) -> None:
    """Copy what W&B lacks from the ledger, then upload the runs that the server does not have.

    Works without a running sweep, and for trials of other machines. The same command again continues it.
    """
    folder, place = out / "wandb", storage or str(out / "ledger.db")
    keys = [StudyKey.parse(name) for name in studies] if studies else None
    if storage is None and not (out / "ledger.db").exists():
        raise StorageError("there is no ledger", file=place, fix="give --out or --storage of a sweep")
    ledger = Ledger(place, PATIENCE_SECONDS)
    _make(folder)
    with only_mirror(folder) as alone:
        if rebuild and not alone:
            raise StorageError("a running sweep mirrors to it", file=folder, fix="--rebuild when it has ended")
        if rebuild:
            _drop(ledger, folder, keys)
    if alone:
        typer.echo(f"{_bring_up_to_date(ledger, place, folder, keys, artifacts, seconds)} runs copied to {folder}")
    else:
        typer.echo(f"a running sweep copies to {folder}")
    if upload_runs:
        sent = upload(folder, seconds_per_run, lambda n, total: typer.echo(f"{n} of {total} runs uploaded"))
        typer.echo(f"{sent} runs uploaded")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG).touch()
    except OSError as error:
        raise StorageError(f"cannot be written ({error.strerror})", file=folder, fix="mend its rights") from None


def _drop(ledger: Ledger, folder: Path, keys: Keys) -> None:
    """Note that W&B has none of these cells; the mirror then removes their runs and makes the same ones again."""
    notes = Notes(folder)
    for row in ledger.view.ended(keys):
        if row["cell_hash"] in notes.by_cell:
            notes.add("dropped", row["cell_hash"])


def _bring_up_to_date(ledger: Ledger, place: str, folder: Path, keys: Keys, artifacts: bool, seconds: float) -> int:
    """How many runs were copied.

    Raises:
        StorageError: Some were not.
    """
    before = number_waiting(ledger.view, folder, keys)
    if before:
        MirrorProcess(place, folder, "offline", keys, artifacts).close(seconds)
    left = number_waiting(ledger.view, folder, keys)
    if left:
        fix = "read the end of that file, then give the same command again"
        raise StorageError(f"{left} of {before} runs were not copied to W&B", file=folder / LOG, fix=fix)
    return before
