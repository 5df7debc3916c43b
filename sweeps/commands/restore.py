"""``syncvis sweep restore``: the source that a trial ran, with what was not committed then, in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sweeps.commands.options import OUT, Out, Storage, open_ledger, trial_of
from sweeps.printing import say
from sweeps.restore import Restored, is_ours, restore, source_of_folder, source_of_trial
from sweeps.sources import as_record, told
from syncvis.config import plugins_of, read_yaml
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
        Path | None, typer.Option(help="A clone of syncvis; default: the one that this command runs from or in.")
    ] = None,
) -> None:
    """Bring back the source that a trial ran, uncommitted changes among it, as a worktree of git in FOLDER.

    Exit code 0: the code is the trial's; 1: something that was left out is missing.
    """
    source, command = _source(run, attempt, out, storage)
    clone = repository or next(filter(is_ours, (SOURCE, Path())), SOURCE)
    restored = restore(source, to, clone)
    say(Console(), "\n".join(_lines(source, restored)))
    say(Console(), f"folder  {to}\nuse     PYTHONPATH={restored.path} {command}")
    say(Console(), f"remove  git -C {clone} worktree remove --force {to.absolute()}")
    if source.code and restored.code != source.code:
        raise typer.Exit(1)


def _source(run: str, attempt: int | None, out: Path, storage: str | None) -> tuple[Source, str]:
    """The source, and a command to use it with."""
    if run.isdecimal():
        view = open_ledger(out, storage).view
        row = trial_of(view, int(run))
        words = [run, *([] if out == OUT else ["--out", str(out)]), *_plugins(json.loads(row["config"]))]
        again = f"rerun {' '.join(words)}" if row["state"] == "done" else "..."
        return source_of_trial(view, row, attempt), f"syncvis sweep {again}"
    if attempt is not None:
        fix = "leave it out, or give the number of a trial"
        raise ConfigError("belongs to a trial of a sweep", key="--attempt", fix=fix)
    config = read_yaml(Path(run) / "config.yaml") if (Path(run) / "config.yaml").exists() else {}
    return source_of_folder(Path(run)), " ".join(["syncvis train", *_plugins(config), "..."])


def _plugins(config: Mapping[str, Any]) -> list[str]:
    return [word for module in plugins_of(config) for word in ("--plugin", module)]


def _lines(source: Source, restored: Restored) -> list[str]:
    """What came back, and what did not."""
    lacks = [f"lacks   {line}" for line in source.left_out]
    if not source.code:
        why = "the record is of an older version, which has no fingerprint to compare with"
        return [f"source  commit {source.commit}", *lacks, f"unsure  {why}"]
    same = "same    its fingerprint is that of the record"
    why = "what was left out is missing, or git converts line ends"
    differs = f"differs its fingerprint is {restored.code}, not that of the record: {why}"
    return [f"source  {told(as_record(source))}", *lacks, same if restored.code == source.code else differs]
