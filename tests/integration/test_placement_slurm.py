"""SLURM jobs through submitit's local executor, which starts the same jobs as processes of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweeping import Place, ends

from sweeps.ledger import Ledger

pytest.importorskip("submitit")

SWEEP = """
import os, sys
from pathlib import Path
from typing import Any
from rich.console import Console
from sweeps.ledger import Ledger
from sweeps.placement.slurm import SlurmSettings
from sweeps.runner import Sweep, SweepOptions
from sweeps.view import StudyKey
from syncvis.errors import Interrupted

options = SweepOptions(
    run="fake_run:run", workers=int(sys.argv[1]), poll=0.1, wandb="disabled", storage=os.environ.get("STORAGE"),
    placement=SlurmSettings("local"),
)
try:
    Sweep(Ledger(options.ledger), [StudyKey("nk", "smoke")], options, Console()).run()
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""


def processes_with(word: str, folder: Path) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in text and str(folder) in text:
            yield int(path.parent.name)


def wait_until_started(place: Place, number: int) -> None:
    deadline = time.monotonic() + 20
    while not (place.folder / "started").exists() or sum(place.starts().values()) < number:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("place", [(2, 1)], indirect=True)
def test_a_preempted_job_is_queued_again_and_goes_on_with_its_cell(place: Place) -> None:
    place.add()
    place.set("seconds", 1.5)
    sweep = place.start("-c", SWEEP, "1")
    wait_until_started(place, 1)
    time.sleep(0.3)
    (job,) = processes_with("submitit.core._submit", place.folder)
    os.kill(job, signal.SIGUSR2)
    ends(sweep)
    place.assert_all_done()
    first, second = (cell.hash for cell in place.cells)
    assert (place.folder / "started").read_text().split() == [first, first, second]
    resumed, tick = (place.folder / "resumed").read_text().split()
    assert resumed == first
    assert int(tick) > 10
    outcomes = [(row["number"], row["outcome"]) for row in place.view.attempts()]
    assert outcomes == [(1, "released"), (1, "done"), (2, "done")]


def test_ctrl_c_stops_all_jobs_after_a_checkpoint_and_leaves_no_job_and_no_password(
    place: Place, postgres: Any
) -> None:
    url = postgres.database()
    place.ledger = Ledger(url)
    place.view = place.ledger.view
    place.add()
    place.set("seconds", 30)
    sweep = place.start("-c", SWEEP, "2", STORAGE=url)
    wait_until_started(place, 2)
    sweep.send_signal(signal.SIGINT)
    output = ends(sweep, 75)
    assert "run the same command again to continue" in output
    assert place.view.counts()["planned"] == 4
    assert len(list((place.folder / "outputs" / "runs").glob("*/checkpoint"))) == 2
    assert not list(processes_with("submitit", place.folder))
    files = [path for path in (place.folder / "outputs").rglob("*") if path.is_file()]
    kinds = {path.name.rpartition("_")[2] for path in files}
    assert {"submitted.pkl", "result.pkl", "log.out", "log.err"} <= kinds
    assert not [path for path in files if postgres.password.encode() in path.read_bytes()]
    assert postgres.password not in output
