"""A run function for several processes that trains nothing: they only agree, at every tick, whether to go on.

Files in ``FAKE_FOLDER`` steer it: ``ticks`` holds how many there are, ``fault-<rank>`` what happens to that process
at its third one: "boom" raises, "bug" raises as wrong code does, "killed" ends it. A run that ends leaves a line in
``ranks`` with the number of its processes.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fake_run import Result, Runtime, result

from syncvis.config import RunConfig
from syncvis.distributed import any_process, gather, rank
from syncvis.errors import DataError, Interrupted

__all__ = ["Runtime", "run"]


def run(config: RunConfig, out: Path, runtime: Runtime) -> Result:
    folder = Path(os.environ["FAKE_FOLDER"])
    out.mkdir(parents=True, exist_ok=True)
    fault = folder / f"fault-{rank()}"
    for tick in range(int((folder / "ticks").read_text())):
        if any_process(bool(runtime.should_stop and runtime.should_stop())):
            if rank() == 0:
                time.sleep(0.5)  # the others are gone by now, and the first one still writes
                (out / "checkpoint").write_text(str(tick))
            raise Interrupted("stopped")
        if tick == 3 and fault.exists():
            if fault.read_text() == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault.read_text() == "bug":
                raise KeyError("masks")
            raise DataError("no videos", file="train.json")
        if runtime.on_row and tick < 2:
            runtime.on_row(tick, {"step": tick + 1, "rank": rank()})
        time.sleep(0.01)
    content = result(config)
    told = gather(runtime.to_json())
    if rank() == 0:
        with (folder / "ranks").open("a") as file:
            file.write(f"{len(told)}\n")
    return Result(content | {"ranks": gather(rank()), "told": told})
