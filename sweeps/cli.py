"""``syncvis sweep``: plan, run, status and export of experiments."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from sweeps.experiment import Cell, Scale, find_experiments, load_experiment, plan_cells
from sweeps.ledger import Ledger
from sweeps.placement.ray import RaySettings
from sweeps.placement.slurm import SlurmSettings
from sweeps.runner import Sweep, SweepOptions
from sweeps.tracking import Mode
from sweeps.view import StudyKey
from sweeps.worker import STORAGE_VARIABLE
from syncvis.errors import ConfigError
from syncvis.files import write_text

PATIENCE_SECONDS = 10.0
"""How long a command waits for a database; workers wait longer."""

app = typer.Typer(help="Run experiments as sweeps of many cells.", no_args_is_help=True)

PlacementName = Literal["local", "slurm", "ray"]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="EXPERIMENT...", help="Ids or files; default: all."),
]
ScaleOption = Annotated[Scale, typer.Option(help="Size of data, model and training.")]
Out = Annotated[Path, typer.Option(help="Output folder.")]
Storage = Annotated[
    str | None,
    typer.Option(envvar=STORAGE_VARIABLE, help="postgresql://... for many machines; default: OUT/ledger.db."),
]


@app.command()
def plan(
    experiments: Names = None, scale: ScaleOption = "small", out: Out = Path("outputs"), storage: Storage = None
) -> None:
    """Show how many cells each experiment has, and how many are left; starts nothing."""
    done = {h for h, row in _states(out, storage).items() if row["state"] == "done"}
    table = Table("experiment", "cells", "new", "done", "left", title=f"scale {scale}")
    seen: set[str] = set()
    for cells in _plans(experiments, scale):
        hashes = {cell.hash for cell in cells}
        row = (len(hashes), len(hashes - seen), len(hashes & done), len(hashes - seen - done))
        table.add_row(cells[0].experiment, *map(str, row))
        seen |= hashes
    table.add_section()
    table.add_row("all, each cell once", "", *map(str, (len(seen), len(seen & done), len(seen - done))))
    Console().print(table)


@app.command()
def run(
    experiments: Names = None,
    scale: ScaleOption = "small",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per GPU or core.")] = None,
    gpus: Annotated[str | None, typer.Option(help="GPUs to share out: 0,1,2.")] = None,
    out: Out = Path("outputs"),
    storage: Storage = None,
    wandb: Annotated[Mode, typer.Option(help="W&B mirror.")] = "offline",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    retry: Annotated[bool, typer.Option("--retry", help="Try given up cells again.")] = False,
    placement: Annotated[PlacementName, typer.Option(help="Where the workers run.")] = "local",
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of a job: partition, time, gpus_per_node, ...")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="HOST:PORT or auto; default: a Ray cluster of its own.")
    ] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(min=0, help="Of a Ray task; may be a part of one.")] = None,
    processes_per_trial: Annotated[int, typer.Option(min=1, help="That train one trial together, one per GPU.")] = 1,
) -> None:
    """Run what is left. The same command again continues it.

    Exit code 5: cells were given up; 75: interrupted.
    """
    placed = _placement(placement, slurm or [], ray_address, gpus_per_trial)
    own_gpus = tuple(gpus.split(",")) if gpus else ()
    options = SweepOptions(
        out, storage, workers, own_gpus, wandb, device, placement=placed, processes=processes_per_trial
    )
    ledger = Ledger(options.ledger, PATIENCE_SECONDS)
    keys = []
    for path in find_experiments(experiments or []):
        experiment = load_experiment(path, scale)
        keys.append(StudyKey(experiment.id, scale))
        ledger.add(keys[-1], {}, plan_cells(experiment, scale), out / "runs")
    if retry:
        ledger.retry(keys)
    raise typer.Exit(Sweep(ledger, keys, options, Console()).run())


@app.command()
def status(
    experiments: Names = None, scale: ScaleOption = "small", out: Out = Path("outputs"), storage: Storage = None
) -> None:
    """Show the states of all cells, and why cells were given up."""
    states = _states(out, storage)
    table = Table("experiment", "planned", "running", "done", "given up", "not added", title=f"scale {scale}")
    failures: dict[str, str] = {}
    for cells in _plans(experiments, scale):
        rows = [states[cell.hash] for cell in cells if cell.hash in states]
        counts = [sum(row["state"] == s for row in rows) for s in ("planned", "running", "done", "gave_up")]
        table.add_row(cells[0].experiment, *map(str, [*counts, len(cells) - len(rows)]))
        failures |= {row["run_dir"]: row["error"] for row in rows if row["state"] == "gave_up"}
    console = Console()
    console.print(table)
    for run_dir, error in failures.items():
        console.print(f"{run_dir}: {error}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def export(
    experiments: Names = None,
    scale: ScaleOption = "small",
    out: Out = Path("outputs"),
    storage: Storage = None,
    format: Annotated[Literal["csv", "json"], typer.Option(help="Kind of file.")] = "csv",
    to: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write one row per cell: axes, seed, state and metrics."""
    plans = _plans(experiments, scale)
    rows = _export_rows([cell for cells in plans for cell in cells], out, storage)
    text = json.dumps(rows, indent=1) + "\n" if format == "json" else _csv(rows)
    if to is None:
        typer.echo(text, nl=False)
        return
    write_text(to, text)


def _placement(
    name: PlacementName, slurm: list[str], ray_address: str | None, gpus_per_trial: float | None
) -> SlurmSettings | RaySettings | None:
    """Raises ConfigError for options of another placement."""
    of_ray = ray_address is not None or gpus_per_trial is not None
    if slurm and name != "slurm":
        raise ConfigError("describes a SLURM job", key="--slurm", fix="add --placement slurm")
    if of_ray and name != "ray":
        raise ConfigError("belong to Ray", key="--ray-address, --gpus-per-trial", fix="add --placement ray")
    if name == "slurm":
        return SlurmSettings.parse(slurm)
    return RaySettings(ray_address, gpus_per_trial) if name == "ray" else None


def _plans(names: list[str] | None, scale: str) -> list[list[Cell]]:
    paths = find_experiments(names or [])
    return [plan_cells(load_experiment(path, scale), scale) for path in paths]


def _ledger(out: Path, storage: str | None) -> Ledger | None:
    if storage is None and not (out / "ledger.db").exists():
        return None
    ledger = Ledger(storage or out / "ledger.db", PATIENCE_SECONDS)
    ledger.reap()
    return ledger


def _states(out: Path, storage: str | None) -> dict[str, dict[str, Any]]:
    ledger = _ledger(out, storage)
    return {row["cell_hash"]: row for row in ledger.view.cells()} if ledger else {}


def _export_rows(cells: list[Cell], out: Path, storage: str | None) -> list[dict[str, Any]]:
    ledger = _ledger(out, storage)
    states = {row["cell_hash"]: row for row in ledger.view.cells()} if ledger else {}
    results = ledger.view.results() if ledger else {}
    rows = []
    for cell in cells:
        state = states.get(cell.hash, {"state": "planned", "run_dir": None})
        result = results.get(cell.hash, {"metrics": {}, "commit": None})
        place = {"experiment": cell.experiment, "scale": cell.scale, **cell.axes, "seed": cell.seed}
        origin = {"cell_hash": cell.hash, "commit": result["commit"], "run_dir": state["run_dir"]}
        rows.append({**place, "state": state["state"], **result["metrics"], **origin})
    return rows


def _csv(rows: list[dict[str, Any]]) -> str:
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
