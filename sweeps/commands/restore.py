"""``syncvis sweep restore``: the source that a trial ran, with what was not committed then, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sweeps.commands.options import OUT, Out, Storage, open_ledger, trial_of
from sweeps.printing import say
from sweeps.restore import Restored, restore, source_of_folder, source_of_trial
from sweeps.sources import as_record, told
from syncvis.errors import ConfigError
from syncvis.source import Source

SOURCE = Path(__file__).parents[2]


def restore_source(
    run: Annotated[str, typer.Argument(metavar="TRIAL", help="Number of a trial, or the folder of a finished run.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make.")],
    attempt: Annotated[int | None, typer.Option(min=1, help="Of the trial; default: its last.")] = None,
    out: Out = OUT,
    storage: Storage = None,
    repository: Annotated[
        Path | None, typer.Option(help="A clone of syncvis; default: the one that this command runs from.")
    ] = None,
) -> None:
    """Bring back the source that a trial ran, uncommitted changes among it, as a worktree of git in FOLDER.

    Exit code 0: the code is the trial's; 1: something that was left out is missing.
    """
    source, console = _source(run, attempt, out, storage), Console()
    restored = restore(source, to, repository or SOURCE)
    say(console, "\n".join(_lines(run, to, source, restored)))
    if source.code and restored.code != source.code:
        raise typer.Exit(1)


def _source(run: str, attempt: int | None, out: Path, storage: str | None) -> Source:
    if run.isdecimal():
        view = open_ledger(out, storage).view
        return source_of_trial(view, trial_of(view, int(run)), attempt)
    if attempt is not None:
        raise ConfigError(
            "belongs to a trial of a sweep", key="--attempt", fix="leave it out, or give a trial's number"
        )
    return source_of_folder(Path(run))


def _lines(run: str, to: Path, source: Source, restored: Restored) -> list[str]:
    lines = [f"source  {told(as_record(source))}"] if source.code else [f"source  commit {source.commit}"]
    lines += [f"folder  {to}"]
    lines += [f"lacks   {line}" for line in source.left_out]
    if not source.code:
        lines += ["unsure: the record is of an older version, without a fingerprint to compare with"]
    elif restored.code == source.code:
        lines += ["the same: its fingerprint is that of the record"]
    else:
        lines += [
            f"differs: the fingerprint here is {restored.code}, since code was left out or git converts line ends"
        ]
    again = f"PYTHONPATH={restored.root} syncvis sweep rerun {run}" if run.isdecimal() else ""
    lines += [f"try     {again}"] if again else []
    return [*lines, f"remove  git worktree remove --force {to}"]
