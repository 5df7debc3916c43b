"""Two training processes in one test, and point sampling that does not depend on how a batch is shared.

Run as a script, it is one of the processes: it carries out ``syncvis train`` once per scenario.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

TIMEOUT = 300


@dataclass(frozen=True)
class Scenario:
    """The words of a ``syncvis train`` command, and a fault of the second process in step ``step``.

    A fault is the name of a signal that the process sends itself, or "nan".
    """

    words: tuple[str, ...]
    fault: str = ""
    step: int = -1


def in_two_processes(scenarios: Sequence[Scenario]) -> list[list[tuple[int, str]]]:
    """Exit code and output of every scenario, by process; the processes are told their places as torchrun does."""
    plan = json.dumps([asdict(scenario) | {"port": _free_port()} for scenario in scenarios])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, plan],
            env={**os.environ, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    return [[(code, text) for code, text in json.loads(output)] for output in outputs]


@contextlib.contextmanager
def even_draws() -> Iterator[None]:
    """Let ``torch.rand`` draw the same in every row and call: no clip's points depend on the clips beside it."""
    draw = torch.rand

    def rand(*size: int, **options: Any) -> Tensor:
        row = draw(*size[1:], generator=torch.Generator().manual_seed(0), **options)
        return row.expand(size).contiguous()

    with mock.patch.object(torch, "rand", rand):
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _fault(name: str, at: int) -> Iterator[None]:
    from syncvis.methods.mask2former_vis import Mask2FormerVIS
    from syncvis.training import step as step_module

    seed_step, losses = step_module.seed_step, Mask2FormerVIS.losses
    now: list[int] = []

    def faulty_start(seed: int, step: int, part: int) -> None:
        seed_step(seed, step, part)
        now[:] = [step]
        if _is_second() and step == at and name.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, name))

    def faulty_losses(model: Mask2FormerVIS, batch: Any, **named: Any) -> dict[str, Tensor]:
        factor = float("nan") if _is_second() and now == [at] and name == "nan" else 1.0
        return {key: value * factor for key, value in losses(model, batch, **named).items()}

    with (
        mock.patch.object(step_module, "seed_step", faulty_start),
        mock.patch.object(Mask2FormerVIS, "losses", faulty_losses),
    ):
        yield


def _is_second() -> bool:
    return os.environ["RANK"] == "1"


def _command(words: Sequence[str]) -> tuple[int, str]:
    from syncvis import cli

    output = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["syncvis", "train", *words]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), output.getvalue()
    return 0, output.getvalue()


def _main(plan: str) -> None:
    done = []
    for scenario in json.loads(plan):
        os.environ["MASTER_PORT"] = str(scenario["port"])
        with even_draws(), _fault(scenario["fault"], scenario["step"]):
            done.append(_command(scenario["words"]))
    print(json.dumps(done))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    torch.set_num_threads(1)
    _main(sys.argv[1])
