"""``syncvis sweep``: run experiments; the other commands stand in ``sweeps.commands``, one module each."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from sweeps.commands.export import export
from sweeps.commands.gc import gc
from sweeps.commands.options import OUT, PATIENCE_SECONDS, Experiments, Out, ScaleOption, Storage
from sweeps.commands.plan import plan
from sweeps.commands.rerun import rerun
from sweeps.commands.show import log, show
from sweeps.commands.status import status
from sweeps.commands.steer import resume, retry, stop
from sweeps.experiment import find_experiments, load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.runner import Sweep, SweepOptions
from sweeps.tracking import Mode
from sweeps.view import StudyKey

app = typer.Typer(help="Run experiments as sweeps of many cells.", no_args_is_help=True)
app.command()(plan)


@app.command()
def run(
    experiments: Experiments = None,
    scale: ScaleOption = "small",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per GPU or core.")] = None,
    gpus: Annotated[str | None, typer.Option(help="GPUs to share out: 0,1,2.")] = None,
    out: Out = OUT,
    storage: Storage = None,
    wandb: Annotated[Mode, typer.Option(help="W&B mirror.")] = "offline",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    retry: Annotated[bool, typer.Option("--retry", help="Try given up cells again.")] = False,
) -> None:
    """Run what is left. The same command again continues it.

    Exit code 5: cells were given up; 75: interrupted.
    """
    options = SweepOptions(out, storage, workers, tuple(gpus.split(",")) if gpus else (), wandb, device)
    ledger = Ledger(options.ledger, PATIENCE_SECONDS)
    keys = []
    for path in find_experiments(experiments or []):
        experiment = load_experiment(path, scale)
        keys.append(StudyKey(experiment.id, scale))
        ledger.add(keys[-1], {}, plan_cells(experiment, scale), out / "runs")
    if retry:
        ledger.retry(keys)
    raise typer.Exit(Sweep(ledger, keys, options, Console()).run())


for command in (status, stop, resume, retry, log, show, rerun, export, gc):
    app.command()(command)
