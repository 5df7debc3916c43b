"""Options that the commands share, and what they name: a ledger, studies, a trial."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sweeps.database import Row
from sweeps.definition import Study
from sweeps.experiment import Scale, find_experiments, load_experiment, studies_at
from sweeps.ledger import Ledger
from sweeps.runner import SweepOptions
from sweeps.space import SamplerName
from sweeps.view import Keys, StudyKey, View
from sweeps.worker import STORAGE_VARIABLE
from syncvis.errors import ConfigError, StorageError

PATIENCE_SECONDS = 10.0
"""How long a command waits for a database; workers wait longer."""

Experiments = Annotated[
    list[str] | None, typer.Argument(metavar="EXPERIMENT...", help="Ids or files; default: all.", show_default=False)
]
Studies = Annotated[
    list[str] | None,
    typer.Argument(metavar="STUDY...", help="nk-small, or nk for all its scales; default: all.", show_default=False),
]
Trial = Annotated[int, typer.Argument(metavar="TRIAL", help="Number of a trial, as `status` shows it.")]
On = Annotated[
    list[str] | None,
    typer.Option(metavar="RECIPE", help="What to stand on: ovis_r50, or a run config; repeatable.", show_default=False),
]
ScaleOption = Annotated[Scale, typer.Option(help="Size of data, model and training.")]
Sampler = Annotated[SamplerName | None, typer.Option(help="Choose cells by it; default: the experiment's.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Cells that a sampler may choose.")]
OnlyScale = Annotated[Scale | None, typer.Option("--scale", help="Only studies of this scale.")]
Out = Annotated[Path, typer.Option(help="Output folder.")]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar=STORAGE_VARIABLE,
        help="postgresql://... for many machines; default: OUT/ledger.db.",
        show_envvar=True,
        show_default=False,
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per GPU or core.")]
Gpus = Annotated[str | None, typer.Option(help="GPUs to share out, as this machine shows them: 0,1,2.")]
ProcessesPerTrial = Annotated[int, typer.Option(min=1, help="That train one trial together, one per GPU.")]
TrialTimeout = Annotated[
    float | None, typer.Option(min=1, metavar="SECONDS", help="A try of a trial that takes longer has failed.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="Allow a module of your own that cells name; repeatable.",
        show_default=False,
    ),
]
OUT = SweepOptions.out
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda; default: cuda where GPUs are asked for.", show_default=False)
]


def studies_of(
    names: Sequence[str] | None,
    scale: Scale,
    on: Sequence[str] | None,
    sampler: SamplerName | None,
    trials: int | None,
) -> list[Study]:
    """The studies that experiments, ``--on``, ``--sampler`` and ``--trials`` mean.

    Raises:
        ConfigError: There is no such experiment or recipe, or one is wrong, or has a value that no run can have.
    """
    files = find_experiments(names or [], scale=scale)
    experiments = [load_experiment(file) for file in files]
    studies = [study for one in experiments for study in studies_at(one, scale, on or ())]
    studies = [study.searched(sampler, trials) for study in studies]
    for study in studies:
        study.check()
    return studies


def find_ledger(out: Path, storage: str | None) -> Ledger | None:
    """The ledger, with the cells of dead workers freed; None if there is none yet, and none is made.

    Raises:
        StorageError: The database cannot be used, or is away for longer than some seconds.
    """
    file = out / "ledger.db"
    if storage is None and not file.exists() and not Path(f"{file}.marker").exists():
        return None
    ledger = Ledger(storage or file, PATIENCE_SECONDS)
    ledger.reap()
    return ledger


def open_ledger(out: Path, storage: str | None) -> Ledger:
    """Like :func:`find_ledger`; a missing ledger is an error."""
    ledger = find_ledger(out, storage)
    if ledger is None:
        fix = "give the --out or --storage of a sweep, or start one: syncvis sweep run"
        raise StorageError("there is no ledger yet", file=out / "ledger.db", fix=fix)
    return ledger


def keys_of(view: View, names: Sequence[str] | None, scale: str | None = None) -> Keys:
    """The studies that names mean: ``nk-small``, or ``nk`` (or its file) for all scales; None for all.

    Raises:
        ConfigError: The ledger has no such study.
    """
    if not names and scale is None:
        return None
    known = [key for key in view.studies() if scale in (None, key.scale)]
    if not names:
        return known
    return list(dict.fromkeys(key for name in names for key in _named(name, known, view.place)))


def _named(name: str, known: Sequence[StudyKey], place: str) -> list[StudyKey]:
    plain = Path(name).stem if Path(name).suffix in (".yaml", ".yml") else name
    found = [key for key in known if plain in (key.name, key.experiment, key.id)]
    if found:
        return found
    words = [word for key in known for word in (key.name, key.experiment)]
    near = difflib.get_close_matches(plain, words, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    fix = f"take one of {', '.join(key.name for key in known)}" if known else "run it first: syncvis sweep run"
    raise ConfigError(f"there is no study {name!r}{hint}", file=place, fix=fix)


def trial_of(view: View, number: int) -> Row:
    """All columns of the cell with this trial number.

    Raises:
        ConfigError: There is none.
    """
    row = view.cell(number)
    if row is None:
        fix = "see the numbers with `syncvis sweep status` or `export`"
        raise ConfigError(f"there is no trial {number}", file=view.place, fix=fix)
    return row


def gpu_names(gpus: str | None) -> tuple[str, ...]:
    """Of ``--gpus``."""
    return tuple(word.strip() for word in gpus.split(",")) if gpus else ()


def host_and_process(worker: str | None) -> str:
    """``host:pid`` of a worker's name."""
    parts = (worker or "").rsplit(":", 3)
    return f"{parts[0]}:{parts[2]}" if len(parts) == 4 else worker or "-"
