# ruff: noqa: F811 (fixtures are imported, and named again by the tests)
"""Ray tasks on two nodes of this machine, one of which is lost in the middle."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from test_sweep_processes import Place, ends, place  # noqa: F401

pytest.importorskip("ray", reason="ray is not installed")

SWEEP = """
import sys
from rich.console import Console
from sweeps.ledger import Ledger
from sweeps.placement.ray import RaySettings
from sweeps.runner import Sweep, SweepOptions
from sweeps.view import StudyKey
from syncvis.errors import Interrupted

options = SweepOptions(
    run="fake_run:run", poll=0.1, lease=5, wandb="disabled", placement=RaySettings(sys.argv[1], *map(int, sys.argv[2:])),
)
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
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""
