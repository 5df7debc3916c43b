"""Ray core: one task per trial, on whichever node has its GPUs.

A task claims one cell, runs it and returns. Ray starts a task again when its node is lost, so a task may run twice;
the ledger makes that harmless. All GPUs of a task are on one node, as Ray runs a task in one process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sweeps.ledger import Ledger
from sweeps.placement.orders import Deaths, RemoteWorker, WorkerOptions, remote_worker, require_server
from sweeps.view import StudyKey
from syncvis.errors import ConfigError, Interrupted, MissingDependencyError

if TYPE_CHECKING:
    import ray

# At "0" Ray keeps a loopback address as it is, and takes it for its own; otherwise it puts the machine's in its place.
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
MAX_RETRIES = 3
"""How often Ray itself starts a task again whose node or process is lost."""


@dataclass(frozen=True)
class RaySettings:
    """Which cluster, and what a trial needs of it.

    Attributes:
        address: of a running cluster ("auto" for one of this machine); None starts one here, reachable only from here.
        gpus: of a trial; None for one per process on cuda and none on the CPU.
        cpus: of a trial.
    """

    address: str | None = None
    gpus: float | None = None
    cpus: float = 1

    def resources(self, options: WorkerOptions) -> dict[str, float]:
        """Of one task, as Ray names them."""
        wanted = float(options.processes) if options.execution.on_gpu else 0.0
        return {"CPU": self.cpus, "GPU": wanted if self.gpus is None else self.gpus}


class RayTasks:
    """Tasks that work on some studies: as many at a time as the cluster has room for, or ``size``.

    Raises:
        ConfigError: There is no such cluster, or it has no room for one trial; or the ledger is a file of this machine.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(
        self,
        options: WorkerOptions,
        settings: RaySettings,
        size: int | None,
        ledger: Ledger,
        keys: Sequence[StudyKey],
    ):
        self._ray = _ray(settings.address)
        self._ledger, self._keys, self._log = ledger, list(keys), options.logs / "ray.log"
        self._deaths = Deaths(lambda: ledger.view.number_of_claims(keys))
        self._tasks: list[ray.ObjectRef[tuple[int, str]]] = []
        self._stopping = False
        _connect(self._ray, settings.address)
        try:
            if any(node["NodeManagerHostname"] != socket.gethostname() for node in self._alive_nodes()):
                require_server(options.storage, "Ray")
            resources = settings.resources(options)
            room = self._room(resources)
            self._size = size or sum(room)
            if not self._size:
                problem, fix = "no node of the Ray cluster has room for one trial", "ask for less, or start more of Ray"
                raise ConfigError(f"{problem} ({resources})", key="--gpus-per-trial", fix=fix)
        except BaseException:
            self._ray.shutdown()
            raise
        self._address = settings.address
        sharing = max(1, min(self._size, max(room)))
        self._worker = remote_worker(replace(options, sharing=sharing), keys, options.logs, 1)
        wanted = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": MAX_RETRIES}
        self._task = self._ray.remote(**wanted)(run_one)

    @property
    def where(self) -> str:
        nodes = ", ".join(sorted({node["NodeManagerAddress"] for node in self._alive_nodes()}))
        cluster = f"the Ray cluster at {self._address}" if self._address else "a Ray cluster of its own"
        return f"up to {self._size}, as tasks of {cluster}, bound to {nodes}"

    def tend(self) -> bool:
        self._ledger.reap()  # the cells of lost nodes, whose tasks Ray has given up
        self._look()
        view, counts = self._ledger.view, self._ledger.view.counts(self._keys)
        grows = view.may_grow(self._keys)
        wanted = self._size if grows else min(self._size, counts["planned"] + counts["running"])
        if counts["planned"] or grows:
            self._tasks += [self._task.remote(self._worker) for _ in range(wanted - len(self._tasks))]
        return bool(self._tasks) or not view.is_over(self._keys) or grows

    def alive(self) -> bool:
        self._look()
        return bool(self._tasks)

    def stop(self) -> None:
        """Asked through the ledger, which reaches every node; tasks that have not begun then end at once."""
        if not self._stopping:
            self._stopping = True
            self._ledger.stop(self._keys)

    def kill(self) -> None:
        """Also of the cluster, if it is our own."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()
        self._worker.storage.unlink(missing_ok=True)

    def _look(self) -> None:
        """Take out the tasks that have ended; of those that failed, keep the reason in the log."""
        if not self._tasks:
            return
        ended, self._tasks = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        for task in ended:
            try:
                code, text = self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                code, text = 1, str(error)
            if code not in (0, Interrupted.exit_code):
                self._note(text)
                self._deaths.count(f"Ray tasks end with code {code}", self._log, code)

    def _note(self, text: str) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")

    def _alive_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _room(self, resources: dict[str, float]) -> list[int]:
        """How many tasks fit on each node; more may be added while the sweep runs, with ``size``."""
        needed = {name: number for name, number in resources.items() if number}
        nodes = [node["Resources"] for node in self._alive_nodes()]
        return [min(int(node.get(name, 0) // number) for name, number in needed.items()) for node in nodes]


def run_one(worker: RemoteWorker) -> tuple[int, str]:
    """What a task does; returns the worker's exit code and what it last said."""
    process = worker.start(subprocess.PIPE)
    output, _ = process.communicate()
    return process.returncode, output[-2000:]


def _ray(address: str | None) -> Any:
    """The package, told before its import whether its cluster is only to be reached from this machine."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if address is None or address.startswith(("127.", "localhost")):
        os.environ[LOOPBACK] = "0"
    try:
        import ray
    except ImportError:
        problem = "ray is not installed"
        raise MissingDependencyError(
            problem, key="--placement ray", fix="in a clone: pip install -e '.[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    own = {"address": "local", "include_dashboard": False}
    with _sigterm_kept():
        try:
            ray.init(**({"address": address} if address else own), log_to_driver=False, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError) as error:
            problem = " ".join(str(error).split())
            fix = "give the HOST:PORT of a running Ray; most want RAY_AUTH_MODE=token and the token of their head node"
            raise ConfigError(problem, key="--ray-address", fix=fix) from None


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray would take SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
