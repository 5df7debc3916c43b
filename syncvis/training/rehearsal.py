"""A run that is only tried: stopped after its first step, continued from its checkpoint, and nothing large is kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from syncvis.config import RunConfig
from syncvis.distributed import rank
from syncvis.errors import Interrupted
from syncvis.training import run as training
from syncvis.training.run import RunResult, Runtime

__all__ = ["RunResult", "Runtime", "run"]

LARGE = ("*.pt", "*.safetensors")


def run(config: RunConfig, out: Path, runtime: Runtime | None = None) -> RunResult:
    """As :func:`syncvis.training.run.run`, interrupted once; weights and checkpoints are removed in the end."""
    runtime = runtime or Runtime()
    try:
        if config.train.steps > 1:
            with suppress(Interrupted):
                training.run(config, out, replace(runtime, should_stop=lambda: True))
        return training.run(config, out, runtime)
    finally:
        if rank() == 0:
            for path in (path for kind in LARGE for path in out.glob(kind)):
                path.unlink(missing_ok=True)
