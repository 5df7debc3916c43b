"""The command ``syncvis``. Other packages add their sub-commands through the entry-point group ``syncvis.commands``.

Torch is imported inside the commands that need it, so that help, plans and reports start at once.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from syncvis.data_cli import app as data_app
from syncvis.data_cli import say
from syncvis.errors import ConfigError, WorkbenchError
from syncvis.execution import PLAIN, Execution
from syncvis.options import (
    CheckpointActivations,
    Deterministic,
    Device,
    FeatureCacheFolder,
    FeatureCacheGib,
    LoaderWorkers,
    Threads,
)
from syncvis.references import allow

if TYPE_CHECKING:
    from syncvis.config import RunConfig

app = typer.Typer(
    help="The workbench for ablating video instance segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app, name="data")
weights_app = typer.Typer(help="Start from published weights.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML run config, e.g. experiments/base/small.yaml")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. sync.momentum=0.1 seed=1")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="allow a module of your own that the config names; repeatable"),
]


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default outputs/train/<hash>")] = None,
    device: Device = "cpu",
    threads: Threads = 1,
    loader_workers: LoaderWorkers = None,
    checkpoint_activations: CheckpointActivations = False,
    deterministic: Deterministic = False,
    feature_cache: FeatureCacheFolder = None,
    feature_cache_gib: FeatureCacheGib = PLAIN.feature_cache_gib,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it would cost and what is missing")] = False,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs of the dry run; default 8 at scale paper, else 1", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the dry run as JSON")] = False,
    plugins: Plugins = None,
) -> None:
    """Train and evaluate one run; the same command continues an interrupted one. Several processes: with torchrun."""
    from syncvis.config import load_config

    allow(plugins)
    resolved = load_config(config, overrides or [])
    execution = Execution(
        device, threads, loader_workers, checkpoint_activations, deterministic, feature_cache, feature_cache_gib
    )
    if dry_run:
        _dry_run(resolved, config, gpus, device, as_json)
    if gpus is not None or as_json:
        raise ConfigError("--gpus and --json belong to --dry-run", file="command line", fix="add --dry-run")
    out = out or Path("outputs/train") / resolved.cell_hash
    from syncvis.distributed import joined, rank
    from syncvis.training.run import Runtime, run

    with joined(device) as own_device:
        own = execution.settings() | {"device": own_device}
        runtime = Runtime(**own, progress=sys.stdout.isatty(), keep_source=True)
        result = run(resolved, out, runtime)
        if rank() == 0:
            typer.echo("  ".join(f"{name} {value:.1f}" for name, value in result.metrics.items()))
            if result.features:
                typer.echo("features: {hits} frames read, {misses} computed".format_map(result.features))
            typer.echo(f"run folder: {out}   pictures: {out / 'overlays'}   seconds: {result.seconds['total']:.0f}")


def _dry_run(config: RunConfig, source: Path, gpus: int | None, device: str, as_json: bool) -> NoReturn:
    from syncvis.training.dry_run import dry_run
    from syncvis.training.dry_run_text import render

    found = dry_run(config, source, gpus, device)
    typer.echo(json.dumps(found.to_json(), indent=1) if as_json else render(found))
    raise typer.Exit(found.exit_code)


@app.command("eval")
def evaluate(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")],
    split: Annotated[str, typer.Option(help="JSON file below the data root")] = "valid.json",
    root: Annotated[str | None, typer.Option(help="another data root")] = None,
    results: Annotated[Path | None, typer.Option(help="also write results.json, or a .zip of it, here")] = None,
    device: Device = "cpu",
    threads: Threads = 1,
    plugins: Plugins = None,
) -> None:
    """Evaluate the weights of a run on a split."""
    from syncvis.training.apply import evaluate_run

    allow(plugins)
    remarks: list[str] = []
    evaluation = evaluate_run(run_dir, split, root, results, device, threads, remarks)
    say(remarks)
    typer.echo(str(evaluation))


@app.command("eval-results")
def evaluate_results(
    truth: Annotated[Path, typer.Argument(metavar="GT.json", help="annotations in YouTube-VIS format")],
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="tracks as the evaluation server takes them")],
    details: Annotated[bool, typer.Option("--details", help="also lengths, occlusion, errors, identities")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="all numbers at full precision, 0 to 1")] = False,
) -> None:
    """The official evaluator's twelve numbers of a results.json, from any code."""
    from syncvis.evaluation.files import evaluate_files, render

    remarks: list[str] = []
    evaluation, left_out = evaluate_files(truth, results, details, remarks)
    found = {**evaluation.to_json(), "left_out": left_out, "remarks": remarks}
    say(remarks)
    typer.echo(json.dumps(found, indent=1) if as_json else render(evaluation, left_out))


@app.command()
def infer(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")],
    source: Annotated[Path, typer.Argument(metavar="FRAMES", help="folder of frames, or a video file")],
    out: Annotated[Path, typer.Option(help="folder for results.json and the pictures")] = Path("outputs/infer"),
    max_frames: Annotated[int, typer.Option(help="refuse longer videos", min=1)] = 500,
    device: Device = "cpu",
    threads: Threads = 1,
    plugins: Plugins = None,
) -> None:
    """Find and track the instances of one video."""
    from syncvis.training.apply import infer_video

    allow(plugins)
    paths = infer_video(run_dir, source, out, max_frames, device, threads)
    for path in paths:
        typer.echo(str(path))


@weights_app.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="published weights: .pth, .pkl or .safetensors")],
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="safetensors file for train.init")] = Path("weights.safetensors"),
    prefix: Annotated[
        str | None, typer.Option(help="of the names to take, such as ema_model., if there are two")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Turn published ImageNet, Mask2Former, VITA or SyncVIS weights into a file for train.init."""
    from syncvis.config import load_config
    from syncvis.interop.importing import import_file
    from syncvis.interop.opening import recognise

    allow(plugins)
    recognise(file)
    for line in import_file(file, load_config(config, overrides or []), out, prefix):
        typer.echo(line)


@app.command("config")
def show_config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the resolved config of a run and its hash."""
    from syncvis.config import load_config

    resolved = load_config(config, overrides or [])
    typer.echo(json.dumps(resolved.model_dump(mode="json"), indent=1))
    typer.echo(f"cell {resolved.cell_hash}  variant {resolved.variant_hash}", err=True)


@app.command("import-config")
def import_config(
    source: Annotated[Path, typer.Argument(metavar="YAML", help="config of the public Mask2Former-VIS or SyncVIS")],
    out: Annotated[Path | None, typer.Option(help="write the run config there instead of printing it")] = None,
    allow_unknown: Annotated[bool, typer.Option(help="leave out what cannot be carried over")] = False,
) -> None:
    """Turn a detectron2 YAML, with its bases, into a run config; say what became of every key."""
    from syncvis.files import write_text
    from syncvis.interop import detectron2_yaml

    text, report = detectron2_yaml.import_config(source, allow_unknown)
    typer.echo(str(report), err=out is None)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


def _add_plugins() -> None:
    for plugin in entry_points(group="syncvis.commands"):
        app.add_typer(plugin.load(), name=plugin.name)


def main() -> None:
    """Entry point: faults that the user can mend become one line and an exit code."""
    if isinstance(sys.stdout, TextIOWrapper):  # names in data may have characters that the terminal has not
        sys.stdout.reconfigure(errors="backslashreplace")
    _add_plugins()
    try:
        app()
    except WorkbenchError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
