"""FLOPs of training clips, counted by processes of their own (:mod:`syncvis.training.count`) and remembered."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import cache

from rich.console import Console
from rich.progress import Progress

from syncvis.config import RunConfig
from syncvis.preflight.asking import ask
from syncvis.preflight.classes import classes_by_name
from syncvis.preflight.memory import recall, remember
from syncvis.references import allowed
from syncvis.source.plugins import files_of, sums

MODULE = "syncvis.training.count"
VERSION = "flops 1"
CODE = tuple(f"syncvis/{name}" for name in ("models/", "methods/", "sync/", "ops/", "training/cost", "training/meter"))
"""Where files begin that decide a count."""

AT_LEAST = 4
"""Counts that are worth another process: its import of torch takes as long as some of them."""

Key = tuple[str, ...]


def clip_flops(configs: Sequence[RunConfig]) -> list[int | None]:
    """FLOPs of the forward and the backward pass of one training clip of each run; torch is not imported here.

    Runs that differ in nothing that a count depends on share one. Nk does not separate them: ten more of 100 queries
    add about 0.04 % (SyncVIS, R50, 8 frames). A bar is shown on a terminal while something is counted.

    Returns:
        None for code from outside the workbench that is not allowed here, and for what cannot be counted.
    """
    keys = [_key(config) if set(config.plugins) <= set(allowed()) else None for config in configs]
    wanted: dict[Key, RunConfig] = {}
    for key, config in zip(keys, configs, strict=True):
        if key is not None:
            wanted.setdefault(key, config)
    known = {key: int(found["flops"]) for key in wanted if (found := recall(key)) is not None and "flops" in found}
    known |= _count({key: config for key, config in wanted.items() if key not in known})
    return [known.get(key) if key is not None else None for key in keys]


def _count(wanted: dict[Key, RunConfig]) -> dict[Key, int]:
    """Ask for all of them, and remember the answers; two processes at most."""
    if not wanted:
        return {}
    questions = [{"config": c.model_dump(mode="json"), "classes": _classes(c)} for c in wanted.values()]
    processes = min(2, os.cpu_count() or 1, 1 + len(wanted) // (2 * AT_LEAST))
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"counting FLOPs of {len(wanted)} models", total=len(wanted))
        answers = ask(MODULE, questions, processes, lambda: progress.advance(bar))
    found = {key: answer["flops"] for key, answer in zip(wanted, answers, strict=True) if answer and "flops" in answer}
    for key, flops in found.items():
        remember(key, {"flops": flops})
    return found


def _key(config: RunConfig) -> Key:
    """What decides the count: model, frames, classes; of modules all settings where code of one's own may read them."""
    size = {"frames": True, "short_side": True, "max_size": True}
    model = config.model_dump(mode="json", include={"model": True, "method": True, "data": size})
    modules = config.model_dump(mode="json", include={"sync": True, "subclips": True})
    sync = {name: value for name, value in (modules["sync"] or {}).items() if name not in ("num_selected", "momentum")}
    read = modules if config.plugins else {"sync": sync if config.sync else None}
    parts = [model, read, config.train.trained, _classes(config)]
    code = [json.dumps(sums(files_of(module))) for module in config.plugins]
    return VERSION, _code(), json.dumps(parts, sort_keys=True), *code


def _classes(config: RunConfig) -> int:
    return classes_by_name(config.data.root)[0]


@cache
def _code() -> str:
    """Of the workbench, as far as a count depends on it."""
    return json.dumps(sums({name: text for name, text in files_of("syncvis").items() if name.startswith(CODE)}))
