"""Ray tasks on two nodes of this machine, one of which is lost in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sweeping import Place, ends

pytest.importorskip("ray", reason="ray is not installed")

SWEEP = """
import sys
from rich.console import Console
from sweeps.ledger import Ledger
from sweeps.placement.ray import RaySettings
from sweeps.runner import Sweep, SweepOptions
from sweeps.view import StudyKey
from syncvis.errors import Interrupted

placement = RaySettings(sys.argv[1] or None, gpus=float(sys.argv[2]))
options = SweepOptions(run="fake_run:run", poll=0.1, lease=5, wandb="disabled", placement=placement)
try:
    Sweep(Ledger(options.ledger), [StudyKey("nk", "smoke")], options, Console()).run()
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""
NODES = """
import sys
from ray.cluster_utils import Cluster

here = {"node_ip_address": "127.0.0.1", "object_store_memory": 80_000_000, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={**here, "num_cpus": 2, "num_gpus": 2})
other = cluster.add_node(**here, num_cpus=2, num_gpus=2)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(other, allow_graceful=False)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture
def nodes(place: Place) -> Iterator[subprocess.Popen[str]]:
    """Two nodes with two GPUs each; the second is killed by an empty line."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", NODES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as made:
        yield made
        made.communicate("\n\n", timeout=30)


def wait_until_started(place: Place, number: int) -> None:
    deadline = time.monotonic() + 40
    while not (place.folder / "started").exists() or sum(place.starts().values()) < number:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trials_of(place: Place) -> list[str]:
    """Processes that were told this folder and still live."""
    mine = f"FAKE_FOLDER={place.folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.name != str(os.getpid()) and mine in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text())
    return found


@pytest.mark.parametrize("place", [(4, 2)], indirect=True)
def test_a_lost_node_costs_nothing(place: Place, nodes: subprocess.Popen[str]) -> None:
    """Eight trials of one GPU in four places; two of these are lost while they train."""
    assert nodes.stdin
    assert nodes.stdout
    place.add()
    place.set("seconds", 2)
    address = nodes.stdout.readline().strip()
    sweep = place.start("-c", SWEEP, address, "1")
    wait_until_started(place, 4)
    time.sleep(0.3)
    nodes.stdin.write("\n")
    nodes.stdin.flush()
    output = ends(sweep)
    assert f"workers up to 4, as tasks of the Ray cluster at {address}, bound to 127.0.0.1" in output
    place.assert_all_done()
    starts = place.starts()
    assert set(starts) == {cell.hash for cell in place.cells}
    assert sum(starts.values()) == 8 + 2, "two of the four that ran were begun again"
    assert [row["outcome"] for row in place.view.attempts()].count("done") == 8


@pytest.mark.parametrize("place", [(2, 1)], indirect=True)
def test_ctrl_c_ends_everything_that_was_started(place: Place) -> None:
    place.add()
    place.set("seconds", 60)
    sweep = place.start("-c", SWEEP, "", "0")
    wait_until_started(place, 2)
    sweep.send_signal(signal.SIGINT)
    output = ends(sweep, 75)
    assert "as tasks of a Ray cluster of its own, bound to 127.0.0.1" in output
    assert "run the same command again to continue" in output
    assert place.view.counts()["planned"] == 2
    assert len(list((place.folder / "outputs" / "runs").glob("*/checkpoint"))) == 2
    assert not list((place.folder / "outputs" / "logs").glob("storage-*"))
    assert not trials_of(place)
