"""``syncvis sweep show`` and ``log``: all that is known of one trial."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sweeps.commands.options import OUT, Out, Storage, Trial, host_and_process, open_ledger, trial_of
from sweeps.database import Row
from sweeps.experiment import describe
from sweeps.ledger import MAX_DEATHS, MAX_FAILURES, MAX_LOSSES
from sweeps.printing import say
from sweeps.progress import format_seconds
from sweeps.sources import as_record, source_now, sources_of
from sweeps.view import View
from syncvis.files import finite

# What has a place of its own in the text, or is as long as the data set.
_LONG = ("history", "per_video", "per_video_tracking", "per_category", "config")
_MAX_TEXT = 100
"""How long a text of the record may be; --json has all of it."""
_LIMITS = {"failures": MAX_FAILURES, "deaths": MAX_DEATHS, "losses": MAX_LOSSES}


def show(
    trial: Trial,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as JSON, with every metric.")] = False,
    out: Out = OUT,
    storage: Storage = None,
) -> None:
    """Print the record of a trial: config, source, versions, hardware, data, times, attempts, result."""
    view, console = open_ledger(out, storage).view, Console()
    found = record(view, trial)
    if as_json:
        typer.echo(json.dumps(finite(found), indent=1))
    else:
        say(console, "\n".join(_text(found)))


def log(
    trial: Trial,
    lines: Annotated[int, typer.Option(min=1, help="How many lines of the end of the log.")] = 40,
    out: Out = OUT,
    storage: Storage = None,
) -> None:
    """Print why a trial failed: its record, error.log, and the end of the log of its last attempt."""
    view, console = open_ledger(out, storage).view, Console()
    row, attempts = trial_of(view, trial), view.attempts(number=trial)
    folder = Path(row["run_dir"])
    say(console, "\n".join(_head(row, attempts)))
    for attempt in attempts:
        say(console, _attempt(attempt))
    _print_file(console, folder / "error.log", None)
    _print_file(console, folder / f"attempt-{row['attempt']}.log", lines)


def record(view: View, number: int) -> Row:
    """Everything that the ledger holds of a trial, with the config as a tree."""
    row = trial_of(view, number)
    result = view.results([row["cell_hash"]]).get(row["cell_hash"])
    studies = {key.name: axes for key, axes in view.memberships(row["cell_hash"])}
    return {
        **{name: value for name, value in row.items() if name not in ("config", "lease_until")},
        "studies": studies,
        "config": json.loads(row["config"]),
        "attempts": view.attempts(number=number),
        "sources": {n: as_record(source) for n, source in sources_of(view, row["cell_hash"]).items()},
        "result": result,
    }


def _text(found: Row) -> Iterator[str]:
    yield from _head(found, found["attempts"])
    for name, axes in found["studies"].items():
        yield f"study  {name}: {describe(axes)}"
    for attempt in found["attempts"]:
        yield _attempt(attempt)
    result: Row = found["result"] or {}
    yield from source_now(found)
    for name, value in result.items():
        if name not in _LONG and name not in ("cell_hash", "variant_hash", "seed", "scale"):
            yield from _entry(name, value)
    yield "config"
    yield from _tree(found["config"], 1)


def _head(row: Row, attempts: Sequence[Row]) -> Iterator[str]:
    yield f"trial {row['number']}: {row['state'].replace('gave_up', 'given up')}"
    yield f"hash   {row['cell_hash']}, without the seed {row['variant_hash']}"
    yield f"seed   {row['seed']}"
    yield f"folder {row['run_dir']}"
    if row["state"] == "running":
        yield f"worker {host_and_process(row['worker'])}"
    yield f"tries  {_tries(row, attempts)}"
    if row["error"]:
        yield f"error  {row['error']}"


def _tries(row: Row, attempts: Sequence[Row]) -> str:
    """How all attempts ended, and what counts towards giving up: after a retry that begins at nothing."""
    ends = Counter(attempt["outcome"] or "not ended" for attempt in attempts)
    text = f"{len(attempts)}: " * bool(attempts) + (", ".join(f"{n} {outcome}" for outcome, n in ends.items()) or "0")
    if ends["failed"] + ends["died"] == sum(row[name] for name in _LIMITS):
        return text
    counts = ", ".join(f"{row[name]} of {limit} {name}" for name, limit in _LIMITS.items())
    return f"{text}; since the last retry {counts}"


def _attempt(row: Row) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(row["started"]))
    length = "" if row["ended"] is None else f", {format_seconds(row['ended'] - row['started'])}"
    error = f": {row['error']}" if row["error"] else ""
    outcome = row["outcome"] or "not ended"
    carried_out = f", {_execution(row['execution'])}" if row["execution"] else ""
    worker = host_and_process(row["worker"])
    return f"attempt {row['attempt']}: {began}{length}, {worker}{carried_out}, {outcome}{error}"


def _execution(found: Row) -> str:
    """``2 processes on cuda, each with 1 thread and 7 loader processes, deterministic``."""
    threads, loaders, processes = found["threads"], found["loader_workers"], found["processes"]
    place = f"{processes} processes on {found['device']}, each" if processes > 1 else f"on {found['device']}"
    parts = f"{threads} thread{'s' * (threads > 1)}", f"{loaders} loader process{'es' * (loaders != 1)}"
    flags = [name for name in ("checkpoint_activations", "deterministic") if found[name]]
    return ", ".join([f"{place} with {' and '.join(parts)}", *(name.replace("_", " ") for name in flags)])


def _entry(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield name
        yield from _tree(value, 1)
    elif name == "fresh_parameters":
        yield f"{name}: {_grouped(value)}"
    else:
        yield f"{name}: {_short(' '.join(map(str, value)) if isinstance(value, list) else str(value))}"


def _grouped(names: Sequence[str]) -> str:
    """``93 (decoder.sync 45, backbone.stages 48)``: dotted names by the module they are in."""
    modules = (".".join([part for part in name.split(".")[:-1] if not part.isdecimal()][:2]) for name in names)
    counts = ", ".join(f"{module or 'model'} {number}" for module, number in Counter(modules).items())
    return f"{len(names)} ({counts})" if names else "none"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}... (all of it with --json)"


def _tree(tree: Row, depth: int) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield f"{'  ' * depth}{name}"
            yield from _tree(value, depth + 1)
        else:
            yield f"{'  ' * depth}{name}: {json.dumps(value) if isinstance(value, list | dict) else value}"


def _print_file(console: Console, path: Path, lines: int | None) -> None:
    """The file, or its last lines; on another machine there may be none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            text = "".join(deque(stream, maxlen=lines))
    except OSError as error:
        say(console, f"--- {path}: cannot be read here ({error.strerror})")
        return
    say(console, f"--- {path}" + (f", the last {lines} lines" if lines else ""))
    say(console, text.rstrip("\n"))
