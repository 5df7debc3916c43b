"""A run function that trains nothing: the sweeps' tests give it to real worker processes.

What it does depends on the config only: AP is a function of Nk and the seed. Files in ``FAKE_FOLDER`` steer the rest:
every start of a cell leaves a line in ``started``, and one in ``told`` of how it is carried out, ``seconds`` holds its
duration, ``early`` makes it tell its AP after the first of its two steps, too, ``fail-<Nk>`` makes it fail,
``kill-<Nk>`` (then removed) kills its process, and ``hang-<Nk>`` lets it do nothing, and hear nothing, for half a
minute. A run that is stopped leaves the number of its ticks in ``checkpoint``; the next one of the cell leaves a line
in ``resumed`` and goes on from there. With ``stubborn`` it does not stop when it is asked to. A strategy of one's own
is loaded and called, and what it returns is ``scored``.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from syncvis.config import RunConfig
from syncvis.errors import DataError, Interrupted
from syncvis.execution import Execution
from syncvis.references import load

TICK_SECONDS = 0.01
HANG_SECONDS = 30.0


@dataclass(frozen=True)
class Runtime(Execution):
    should_stop: Callable[[], bool] | None = None
    on_row: Callable[[int, dict[str, Any]], None] | None = None


@dataclass(frozen=True)
class Result:
    content: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return self.content


def average_precision(config: RunConfig) -> float:
    selected = config.sync.num_selected if config.sync else 0
    return 50.0 - abs(selected - 10) + config.seed / 10


def run(config: RunConfig, out: Path, runtime: Runtime) -> Result:
    folder = Path(os.environ["FAKE_FOLDER"])
    with (folder / "started").open("a") as file:
        file.write(f"{config.cell_hash}\n")
    with (folder / "told").open("a") as file:
        file.write(json.dumps(runtime.to_json() | {"omp": os.environ["OMP_NUM_THREADS"]}) + "\n")
    selected = config.sync.num_selected if config.sync else 0
    if (folder / f"fail-{selected}").exists():
        kind = (folder / f"fail-{selected}").read_text()
        raise DataError("no videos", file="train.json") if kind == "data" else RuntimeError("boom")
    if (folder / f"kill-{selected}").exists():
        (folder / f"kill-{selected}").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / f"hang-{selected}").exists():
        time.sleep(HANG_SECONDS)
    scored = [load(config.sync.aggregation, {})(None, None)] if config.plugins and config.sync else []
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    seconds = float((folder / "seconds").read_text()) if (folder / "seconds").exists() else 0.0
    ticks = round(seconds / TICK_SECONDS)
    for tick in range(_first_tick(config, out, folder), ticks):
        _stop_if_asked(out, runtime, tick)
        time.sleep(TICK_SECONDS)
    for line, row in enumerate(rows(config, early=(folder / "early").exists())):
        if runtime.on_row:
            runtime.on_row(line, row)
        _stop_if_asked(out, runtime, ticks)
    return Result({**result(config), **({"scored": scored[0]} if scored else {})})


def _first_tick(config: RunConfig, out: Path, folder: Path) -> int:
    if not (out / "checkpoint").exists():
        return 0
    tick = int((out / "checkpoint").read_text())
    with (folder / "resumed").open("a") as file:
        file.write(f"{config.cell_hash} {tick}\n")
    return tick


def _stop_if_asked(out: Path, runtime: Runtime, tick: int) -> None:
    stubborn = (Path(os.environ["FAKE_FOLDER"]) / "stubborn").exists()
    if runtime.should_stop and runtime.should_stop() and not stubborn:
        (out / "checkpoint").write_text(str(tick))
        raise Interrupted("stopped")


def rows(config: RunConfig, early: bool = False) -> list[dict[str, Any]]:
    ap = average_precision(config)
    evaluated = [{"step": 1, "eval/AP": ap}] if early else []
    training = [{"step": 1, "loss": 2.0, "lr": 0.1}, {"step": 2, "loss": 1.0, "lr": 0.1}]
    return [training[0], *evaluated, training[1], {"step": 2, "eval/AP": ap}]


def result(config: RunConfig) -> dict[str, Any]:
    ap = average_precision(config)
    return {
        "cell_hash": config.cell_hash,
        "metrics": {"AP": ap, "AP50": ap + 1, "AP75": ap - 1, "AR1": ap, "AR10": ap},
        "history": [{"step": 2, "AP": ap}],
        "seed": config.seed,
        "steps": config.train.steps,
        "seconds": {"train": 0.0, "eval": 0.0, "total": 0.0},
        "commit": "c0ffee",
        "dirty": False,
        "environment": {"python": "3"},
        "data_fingerprint": "f",
        "config": config.model_dump(mode="json"),
    }
