"""Training processes that tests kill. Run as a script: ``victims.py CONFIG OUT WORKERS [nested]`` trains in a process
of its own and prints its id; nested, in a child of that one. ``victims.py CONFIG OUT WORKERS kills STEP ...`` trains in
a child that is killed after each of the steps, at a random time, by turns with and without loader processes, and then
to the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from syncvis.config import RunConfig


def command(config: RunConfig, folder: Path, workers: int, *words: object) -> list[str]:
    """Of this script, for a run in ``folder / "run"``."""
    source = folder / "config.yaml"
    source.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return [sys.executable, __file__, *map(str, (source, folder / "run", workers, *words))]


@contextmanager
def training(config: RunConfig, folder: Path, workers: int, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that trains, once its first row is there, and the id of the one that does it."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(config, folder, workers, *words), start_new_session=True, **pipes)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def running(process: int) -> bool:
    """Whether a process is there and not only a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def seconds_until(condition: Any, limit: float) -> float:
    """Wait for it; more than the limit if it does not come true."""
    started = time.monotonic()
    while not condition() and time.monotonic() - started <= limit:
        time.sleep(0.02)
    return time.monotonic() - started


def _train(source: str, out: str, workers: str, on_row: Any) -> None:
    from syncvis.config import load_config
    from syncvis.training.run import Runtime, run

    run(load_config(Path(source)), Path(out), Runtime(loader_workers=int(workers), on_row=on_row))


def _announce(line: int, _: Any) -> None:
    if line == 0:
        print(os.getpid(), flush=True)


def _killer(step: int, delay: float) -> Any:
    def on_row(_: int, row: Any) -> None:
        if row["step"] == step:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    return on_row


def _in_child(work: Any) -> int:
    """Exit code, or the signal that ended it as a negative number."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(int(sys.exc_info()[0] is not None))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(source: str, out: str, workers: str, *words: str) -> None:
    import torch

    import syncvis.training.run  # noqa: F401  (once, for all children)

    torch.set_num_threads(1)
    if words[:1] == ("nested",):
        _in_child(lambda: _train(source, out, workers, _announce))
    elif words[:1] == ("kills",):
        chance = random.Random(0)
        for turn, step in enumerate(words[1:]):
            number, killer = ("0", workers)[turn % 2], _killer(int(step), chance.uniform(0, 0.1))
            print(_in_child(partial(_train, source, out, number, killer)), flush=True)
        print(_in_child(partial(_train, source, out, workers, None)), flush=True)
    else:
        _train(source, out, workers, _announce)


if __name__ == "__main__":
    main(*sys.argv[1:])
