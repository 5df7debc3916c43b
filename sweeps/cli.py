"""``syncvis sweep``: run experiments; the other commands stand in ``sweeps.commands``, one module each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from sweeps import rehearsal
from sweeps.commands.dashboard import dashboard
from sweeps.commands.export import export
from sweeps.commands.gc import gc
from sweeps.commands.options import (
    OUT,
    PATIENCE_SECONDS,
    Device,
    Experiments,
    Gpus,
    On,
    Out,
    Plugins,
    ProcessesPerTrial,
    Sampler,
    ScaleOption,
    Storage,
    Trials,
    TrialTimeout,
    Workers,
    gpu_names,
    studies_of,
)
from sweeps.commands.plan import plan
from sweeps.commands.rerun import rerun
from sweeps.commands.restore import restore_source
from sweeps.commands.show import log, show
from sweeps.commands.status import status
from sweeps.commands.steer import resume, retry, stop
from sweeps.commands.work import work
from sweeps.data_guard import refuse_changed_data
from sweeps.enrolment import Change, enrol
from sweeps.launch import Placed, device_of, gpus_of, refuse_unready
from sweeps.ledger import Ledger
from sweeps.placement.ray import RaySettings
from sweeps.placement.slurm import SlurmSettings
from sweeps.readiness import left, require_disk
from sweeps.runner import Sweep, SweepOptions
from sweeps.tracking.commands import sync
from sweeps.tracking.environment import Mode
from syncvis.errors import ConfigError
from syncvis.execution import PLAIN, Execution
from syncvis.options import (
    CheckpointActivations,
    Deterministic,
    FeatureCacheFolder,
    FeatureCacheGib,
    LoaderWorkers,
    Threads,
)
from syncvis.references import allow

PlacementName = Literal["local", "slurm", "ray"]

app = typer.Typer(help="Run experiments as sweeps of many cells.", no_args_is_help=True)
app.command()(plan)


@app.command()
def run(
    experiments: Experiments = None,
    scale: ScaleOption = "small",
    on: On = None,
    workers: Workers = None,
    gpus: Gpus = None,
    out: Out = OUT,
    storage: Storage = None,
    wandb: Annotated[Mode, typer.Option(help="W&B mirror.")] = "offline",
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Give W&B the weights, too.")] = False,
    device: Device = None,
    threads: Threads = 1,
    loader_workers: LoaderWorkers = None,
    checkpoint_activations: CheckpointActivations = False,
    deterministic: Deterministic = False,
    feature_cache: FeatureCacheFolder = None,
    feature_cache_gib: FeatureCacheGib = PLAIN.feature_cache_gib,
    sampler: Sampler = None,
    trials: Trials = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try given up cells again.")] = False,
    extend: Annotated[bool, typer.Option("--extend", help="The experiment has grown: add its new cells.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="The experiment is another now; keep results.")] = False,
    placement: Annotated[PlacementName, typer.Option(help="Where the workers run.")] = "local",
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of a job: partition, time, gpus_per_node, ...")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="HOST:PORT or auto; default: a Ray cluster of its own.")
    ] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(min=0, help="Of a Ray task; may be a part of one.")] = None,
    processes_per_trial: ProcessesPerTrial = 1,
    trial_timeout: TrialTimeout = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Data or weights absent here are on the machines of SLURM or Ray.")
    ] = False,
    plugins: Plugins = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Only try each point: two steps at a small size, in OUT/rehearsal.")
    ] = False,
) -> None:
    """Run what is left. The same command again continues it.

    Exit code 5: cells were given up; 75: interrupted.
    """
    allow(plugins)
    placed = _placement(placement, slurm or [], ray_address, gpus_per_trial)
    if allow_missing and placed is None:
        raise ConfigError("is for trials of other machines", key="--allow-missing", fix="leave it out")
    kind = device_of(device, gpu_names(gpus), placed)
    execution = Execution(
        kind, threads, loader_workers, checkpoint_activations, deterministic, feature_cache, feature_cache_gib
    )
    options = SweepOptions(
        out,
        storage,
        workers,
        gpus_of(gpu_names(gpus), execution, placed),
        wandb,
        execution,
        artifacts=artifacts,
        placement=placed,
        processes=processes_per_trial,
        trial_timeout=trial_timeout,
    )
    studies = studies_of(experiments, scale, on, sampler, trials)
    if rehearse:
        rehearsal.require_this_machine(options)
        refuse_unready([cell.config for study in studies for cell in rehearsal.points_of(study)], options)
        raise typer.Exit(rehearsal.rehearse(studies, options, Console()))
    ledger = Ledger(options.ledger, PATIENCE_SECONDS)
    change: Change = "replace" if replace else "extend" if extend else "none"
    configs = left(studies, ledger.view, retry)
    refuse_unready(configs, options, allow_missing)
    if configs:
        require_disk(_run_root(out, storage), configs, options.size)
    keys = [enrol(ledger, study, _run_root(out, storage), change) for study in studies]
    refuse_changed_data(ledger.view, keys)
    if retry:
        ledger.retry(keys)
    raise typer.Exit(Sweep(ledger, keys, options, Console()).run())


for command in (work, status, dashboard, sync, stop, resume, retry, log, show, rerun, export, gc):
    app.command()(command)
app.command("restore")(restore_source)


def _run_root(out: Path, storage: str | None) -> Path:
    """Where run folders go; a path that other machines understand if they take part."""
    return (out.absolute() if storage else out) / "runs"


def _placement(name: PlacementName, slurm: list[str], ray_address: str | None, gpus_per_trial: float | None) -> Placed:
    """Raises ConfigError for options of another placement."""
    of_ray = ray_address is not None or gpus_per_trial is not None
    if slurm and name != "slurm":
        raise ConfigError("describes a SLURM job", key="--slurm", fix="add --placement slurm")
    if of_ray and name != "ray":
        raise ConfigError("belong to Ray", key="--ray-address, --gpus-per-trial", fix="add --placement ray")
    if name == "slurm":
        return SlurmSettings.parse(slurm)
    return RaySettings(ray_address, gpus_per_trial) if name == "ray" else None
