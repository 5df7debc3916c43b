"""What the placements decide, with jobs and processes that do nothing."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.ledger import Ledger
from sweeps.placement import ray, slurm
from sweeps.placement.local import Pool
from sweeps.placement.orders import MAX_IDLE_DEATHS, Deaths, WorkerOptions, remote_worker, require_server
from sweeps.placement.ray import RaySettings
from sweeps.placement.slurm import SlurmJobs, SlurmSettings, WorkerJob
from sweeps.runner import SweepOptions
from sweeps.view import StudyKey
from sweeps.worker import STORAGE_VARIABLE
from syncvis.errors import ConfigError, DataError, Interrupted, StorageError, WorkbenchError
from syncvis.execution import Execution

KEYS = [StudyKey("nk", "smoke")]
SECRET = "postgresql://user:canary@127.0.0.1:1/none"
WAIT = "while true; do sleep 0.05; done"


class Job:
    """Of submitit: in a state, with or without a result file."""

    def __init__(self, number: int, folder: Path):
        self.job_id, self.state, self.cancelled = str(number), "RUNNING", False
        self.paths = SimpleNamespace(result_pickle=folder / f"{number}.pkl", stderr=folder / f"{number}.err")
        self._result, self._error = 0, None

    def end(self, state: str, result: int | None = None, error: Exception | None = None) -> None:
        self.state = state
        self._error = error
        if result is not None or error is not None:
            self._result = result or 0
            self.paths.result_pickle.touch()

    def done(self) -> bool:
        return self.state not in ("PENDING", "RUNNING", "PREEMPTED", "REQUEUED") or self.paths.result_pickle.exists()

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> int:
        return self._result

    def cancel(self, check: bool) -> None:
        self.state, self.cancelled = "CANCELLED by 0", True


class Executor:
    def __init__(self, folder: Path):
        self.folder, self.jobs = folder, list[Job]()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, call: WorkerJob) -> Job:
        assert b"canary" not in pickle.dumps(call)
        assert STORAGE_VARIABLE not in os.environ
        self.jobs.append(Job(len(self.jobs), self.folder))
        return self.jobs[-1]


@pytest.fixture
def cells(ledger: Ledger, plan_values: Any) -> Ledger:
    """A ledger with three planned cells."""
    ledger.add(KEYS[0], {}, plan_values([1, 2, 3]), "runs")
    return ledger


@pytest.fixture
def jobs(cells: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SlurmJobs, Executor]:
    executor = Executor(tmp_path)
    monkeypatch.setattr(slurm, "_executor", lambda *_: executor)
    monkeypatch.setenv(STORAGE_VARIABLE, SECRET)
    made = SlurmJobs(WorkerOptions(SECRET, tmp_path), SlurmSettings("local"), 2, cells, KEYS, tmp_path / "slurm")
    return made, executor


def claim(ledger: Ledger) -> Any:
    return ledger.claim("elsewhere:boot:1:1", 60)


@pytest.mark.parametrize("state", ["PREEMPTED", "REQUEUED", "PENDING"])
def test_a_job_that_is_queued_again_is_not_replaced(jobs: Any, state: str) -> None:
    placed, executor = jobs
    executor.jobs[0].state = state
    assert placed.tend()
    assert len(executor.jobs) == 2


def test_a_job_that_stays_preempted_is_replaced(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    placed, executor = jobs
    executor.jobs[0].state = "PREEMPTED"
    monkeypatch.setattr(slurm, "PREEMPTED_SECONDS", -1.0)
    assert placed.tend()
    assert len(executor.jobs) == 3


@pytest.mark.parametrize(
    "end",
    [
        {"state": "FAILED"},
        {"state": "NODE_FAIL"},
        {"state": "COMPLETED", "error": RuntimeError("the worker ended with code 1")},
        {"state": "COMPLETED", "result": Interrupted.exit_code},
    ],
)
def test_a_job_that_failed_or_was_stopped_is_replaced(jobs: Any, end: dict[str, Any]) -> None:
    placed, executor = jobs
    executor.jobs[1].end(**end)
    assert placed.tend()
    assert placed.tend()
    assert len(executor.jobs) == 3


def test_jobs_that_die_before_they_take_a_cell_end_the_sweep(jobs: Any, cells: Ledger) -> None:
    placed, executor = jobs
    for _ in range(MAX_IDLE_DEATHS):
        executor.jobs[-1].end("FAILED")
        assert placed.tend()
    claim(cells)  # one more that died in a cell: the count begins anew
    for _ in range(MAX_IDLE_DEATHS):
        executor.jobs[-1].end("FAILED")
        assert placed.tend()
    executor.jobs[-1].end("FAILED")
    with pytest.raises(WorkbenchError, match=r"\.err: SLURM jobs end \(FAILED\) before they take a cell"):
        placed.tend()


def test_cancelled_jobs_are_not_replaced_and_the_last_one_interrupts_the_sweep(jobs: Any) -> None:
    placed, executor = jobs
    executor.jobs[0].end("CANCELLED by 1000")
    assert placed.tend()
    executor.jobs[1].end("CANCELLED by 1000")
    with pytest.raises(Interrupted, match="run the same command again"):
        placed.tend()
    assert len(executor.jobs) == 2


def test_a_stop_asks_the_ledger_and_cancels_what_waits(jobs: Any, cells: Ledger) -> None:
    placed, executor = jobs
    executor.jobs[1].state = "PENDING"
    placed.stop()
    assert cells.view.is_stopping(KEYS)
    assert [job.cancelled for job in executor.jobs] == [False, True]
    assert placed.alive()
    executor.jobs[0].end("COMPLETED", Interrupted.exit_code)
    assert not placed.alive()


def test_when_all_is_done_jobs_end_by_themselves_and_the_password_file_goes(jobs: Any, cells: Ledger) -> None:
    placed, executor = jobs
    (secret,) = (executor.folder / "slurm").glob("storage-*")
    assert secret.read_text() == os.environ[STORAGE_VARIABLE] == SECRET
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for _ in range(3):
        cells.fail(claim(cells), "boom", final=True)
    executor.jobs[0].state = "PENDING"
    assert placed.tend()
    assert [job.cancelled for job in executor.jobs] == [True, False]
    executor.jobs[1].end("COMPLETED", 0)
    assert not placed.tend()
    placed.kill()
    assert not secret.exists()


class Starter:
    """A worker that is a shell script."""

    def __init__(self, script: str):
        self._script = script

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(["sh", "-c", self._script], text=True)


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_what_a_job_leaves_behind() -> None:
    """A result, an error, or nothing where SLURM itself ends it: only then may it be queued again."""
    assert WorkerJob(Starter("exit 0"))() == 0
    assert WorkerJob(Starter("exit 75"))() == Interrupted.exit_code
    with pytest.raises(RuntimeError, match="the worker ended with code 4"):
        WorkerJob(Starter("exit 4"))()
    with pytest.raises(SystemExit):
        WorkerJob(Starter(f"kill -TERM {os.getpid()}; exit 75"))()


@pytest.mark.usefixtures("sigterm")
def test_a_checkpoint_waits_for_the_worker_and_hands_the_job_on_without_its_process(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    script = f"trap 'sleep 0.3; touch {tmp_path}/saved; exit 75' TERM; touch {tmp_path}/ready; {WAIT}"
    job, handed_on = WorkerJob(Starter(script)), []

    def announce(*_: object) -> None:
        handed_on.append(job.checkpoint())
        assert (tmp_path / "saved").exists()

    def preempt() -> None:
        while job._process is None or not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, announce)
    try:
        threading.Thread(target=preempt, daemon=True).start()
        assert job() == Interrupted.exit_code
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert isinstance(pickle.loads(pickle.dumps(handed_on[0].function)), WorkerJob)


def test_slurm_settings_from_words() -> None:
    words = ["partition=gpu", "time=120", "gpus_per_node=2", "mem_gb=32.5", "setup=module load cuda", "setup=a=1"]
    settings = SlurmSettings.parse(words)
    assert settings == SlurmSettings(
        partition="gpu", time=120, gpus_per_node=2, mem_gb=32.5, setup=("module load cuda", "a=1")
    )
    assert settings.parameters() == {
        "timeout_min": 120,
        "cpus_per_task": 1,
        "gpus_per_node": 2,
        "mem_gb": 32.5,
        "slurm_partition": "gpu",
        "slurm_signal_delay_s": 90,
        "slurm_setup": ["module load cuda", "a=1"],
    }


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("partitoin=gpu", "'partitoin=gpu' is no KEY=VALUE of a SLURM job. Fix: use partition"),
        ("gpu", "'gpu' is no KEY=VALUE"),
        ("time=soon", "time=soon: Input should be a valid integer"),
        ("cluster=pbs", "cluster=pbs: Input should be 'slurm' or 'local'"),
    ],
)
def test_wrong_words_are_named(word: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SlurmSettings.parse([word])
    assert str(caught.value).startswith(f"--slurm: {text}")


def test_a_file_is_no_ledger_for_several_machines(cells: Ledger, tmp_path: Path) -> None:
    options = WorkerOptions(str(tmp_path / "ledger.db"), tmp_path)
    with pytest.raises(ConfigError, match=r"^--storage: a SQLite file cannot be shared by the machines of SLURM"):
        SlurmJobs(options, SlurmSettings(), 1, cells, KEYS, tmp_path)
    with pytest.raises(ConfigError, match="of Ray"):
        require_server("sqlite:///ledger.db", "Ray")
    require_server(SECRET, "Ray")


def test_slurm_without_its_commands_is_named(cells: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch is not there"):
        SlurmJobs(WorkerOptions(SECRET, tmp_path), SlurmSettings(), 1, cells, KEYS, tmp_path)
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        (tmp_path / name).write_text("#!/bin/sh\necho accounting is disabled >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ConfigError, match=r"sacct does not answer \(accounting is disabled\)"):
        SlurmJobs(WorkerOptions(SECRET, tmp_path), SlurmSettings(), 1, cells, KEYS, tmp_path)


def test_a_remote_worker_knows_the_place_of_a_relative_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    worker = remote_worker(WorkerOptions("outputs/ledger.db", tmp_path, processes=2), KEYS, tmp_path / "slurm", 1)
    assert worker.storage.read_text() == str(tmp_path / "outputs" / "ledger.db")
    assert worker.folder == tmp_path
    assert worker.words[:2] == ("--studies", "nk-smoke")
    assert worker.words[-4:] == ("--processes", "2", "--limit", "1")


def test_workers_of_every_placement_are_told_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$PWD|$CUDA_VISIBLE_DEVICES|$SYNCVIS_STORAGE|$*" >&2\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.chdir(tmp_path)
    execution = Execution("cuda", 3, 4, checkpoint_activations=True, deterministic=True)
    groups, modules = ["0,1", "2,3"], ["mine", "yours.too"]
    options = WorkerOptions(SECRET, tmp_path / "logs", execution=execution, gpus=groups, plugins=modules)
    assert options.words(KEYS)[-4:] == ("--plugin", "mine", "--plugin", "yours.too")
    assert " ".join(execution.words()) in " ".join(options.words(KEYS))
    words = f"-m sweeps.worker {' '.join(options.words(KEYS))} --parent {os.getpid()}"
    here = words.replace("--sharing 1", "--sharing 3")
    pool = Pool(options, 3, KEYS, lambda: 0)
    while pool.alive():
        time.sleep(0.01)
    told = [(tmp_path / "logs" / f"worker-{slot}.log").read_text() for slot in range(3)]
    assert told == [f"{tmp_path}|{gpus}|{SECRET}|{here}\n" for gpus in ("0,1", "2,3", "0,1")]
    process = remote_worker(options, KEYS, tmp_path, None).start(subprocess.PIPE)
    output, _ = process.communicate()
    assert output == f"{tmp_path}|7|{SECRET}|{words}\n"


def test_the_kind_of_a_death_is_kept(tmp_path: Path) -> None:
    deaths = Deaths(lambda: 0)
    for _ in range(MAX_IDLE_DEATHS):
        deaths.count("workers end with code 4", tmp_path / "log", 4)
    with pytest.raises(StorageError, match="workers end with code 4 before they take a cell"):
        deaths.count("workers end with code 4", tmp_path / "log", 4)


def test_a_worker_that_could_not_work_says_why_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for said, code, kind, wanted in (
        (
            "noise\nerror: nk.yaml: axes: wrong. Fix: mend it\n",
            2,
            ConfigError,
            r"^nk\.yaml: axes: wrong\. Fix: mend it$",
        ),
        ("error: a.json: no videos\n", 3, DataError, r"^a\.json: no videos$"),
        ("error: old\nTraceback ...\nKeyError: 3\n", 1, WorkbenchError, r"^.*log: ended before they take a cell"),
        ("error: old\nSegmentation fault\n", 2, ConfigError, r"^.*log: ended before they take a cell"),
    ):
        log.write_text(said)
        deaths = Deaths(lambda: 0)
        for _ in range(MAX_IDLE_DEATHS):
            deaths.count("ended", log, code)
        with pytest.raises(kind, match=wanted) as error:
            deaths.count("ended", log, code)
        assert type(error.value) is kind


def test_gpus_go_to_trials_in_groups() -> None:
    options = SweepOptions(gpus=("0", "1", "2", "3"), processes=2)
    assert (options.gpu_groups, options.size) == (["0,1", "2,3"], 2)
    with pytest.raises(ConfigError, match="--gpus: 4 GPUs cannot be shared out to trials of 3 processes"):
        assert replace(options, processes=3).size


@pytest.mark.parametrize(("size", "room", "sharing"), [(None, 10, 8), (4, 4, 4), (20, 20, 8)])
def test_ray_tells_how_many_tasks_share_a_node(
    size: int | None, room: int, sharing: int, cells: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"CPU": 64.0, "GPU": 8.0}, {"CPU": 2.0, "GPU": 8.0}, {"CPU": 64.0}]
    here = {"NodeManagerHostname": socket.gethostname(), "Alive": True}
    told = SimpleNamespace(
        nodes=lambda: [{**here, "Resources": resources} for resources in nodes],
        remote=lambda **_: lambda function: function,
        shutdown=lambda: None,
    )
    monkeypatch.setattr(ray, "_ray", lambda address: told)
    monkeypatch.setattr(ray, "_connect", lambda *_: None)
    options = WorkerOptions(SECRET, tmp_path, execution=Execution("cuda"))
    tasks = ray.RayTasks(options, RaySettings(), size, cells, KEYS)
    words = tasks._worker.words
    assert (tasks._size, words[words.index("--sharing") + 1]) == (room, str(sharing))
    nodes[:] = [{"CPU": 64.0}]
    with pytest.raises(ConfigError, match=r"--gpus-per-trial: no node of the Ray cluster has room for one trial"):
        ray.RayTasks(options, RaySettings(), None, cells, KEYS)


@pytest.mark.parametrize(("cluster", "sharing"), [("local", "2"), ("slurm", "1")])
def test_a_job_of_slurm_has_cores_of_its_own(
    cluster: Any, sharing: str, jobs: Any, cells: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_require_slurm", lambda: None)
    made = SlurmJobs(WorkerOptions(SECRET, tmp_path), SlurmSettings(cluster), 2, cells, KEYS, tmp_path / "slurm")
    words = made._worker.words
    assert words[words.index("--sharing") + 1] == sharing


def test_what_a_trial_asks_ray_for(tmp_path: Path) -> None:
    cuda = WorkerOptions(SECRET, tmp_path, execution=Execution("cuda"), processes=2)
    assert RaySettings().resources(cuda) == {"CPU": 1, "GPU": 2}
    assert RaySettings(gpus=0.5).resources(cuda) == {"CPU": 1, "GPU": 0.5}
    assert RaySettings().resources(WorkerOptions(SECRET, tmp_path)) == {"CPU": 1, "GPU": 0}
