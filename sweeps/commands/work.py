"""``syncvis sweep work``: more workers for studies that are in a ledger already, on this machine or any other."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from sweeps.commands.options import (
    OUT,
    Device,
    Gpus,
    Out,
    Plugins,
    ProcessesPerTrial,
    Storage,
    TrialTimeout,
    Workers,
    gpu_names,
    keys_of,
    open_ledger,
)
from sweeps.launch import device_of, gpus_of, refuse_unready
from sweeps.plugins import require_plugins
from sweeps.readiness import open_in
from sweeps.runner import Sweep, SweepOptions
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


def work(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="nk-small, or nk for all its scales.")],
    workers: Workers = None,
    gpus: Gpus = None,
    out: Out = OUT,
    storage: Storage = None,
    device: Device = None,
    threads: Threads = 1,
    loader_workers: LoaderWorkers = None,
    checkpoint_activations: CheckpointActivations = False,
    deterministic: Deterministic = False,
    feature_cache: FeatureCacheFolder = None,
    feature_cache_gib: FeatureCacheGib = PLAIN.feature_cache_gib,
    processes_per_trial: ProcessesPerTrial = 1,
    trial_timeout: TrialTimeout = None,
    plugins: Plugins = None,
) -> None:
    """Work on what others have planned, until nothing is left; needs no experiment file.

    Data and run folders must be reachable under the paths that the ledger names. The W&B mirror stays with whoever
    runs the sweep, or with `syncvis sweep sync`.

    Exit code 5: cells were given up; 75: interrupted.
    """
    allow(plugins)
    ledger = open_ledger(out, storage)
    keys = keys_of(ledger.view, studies) or []
    require_plugins(ledger.view, keys)
    kind = device_of(device, gpu_names(gpus), None)
    execution = Execution(
        kind, threads, loader_workers, checkpoint_activations, deterministic, feature_cache, feature_cache_gib
    )
    shared = gpus_of(gpu_names(gpus), execution, None)
    options = SweepOptions(
        out,
        storage,
        workers,
        shared,
        "disabled",
        execution,
        processes=processes_per_trial,
        trial_timeout=trial_timeout,
    )
    refuse_unready(open_in(ledger.view, keys), options)
    raise typer.Exit(Sweep(ledger, keys, options, Console()).run())
