"""What a launch asks for: devices, GPUs, processes and batches that fit together, or one error before the queue."""

from __future__ import annotations

import json

import pytest
import typer
from helpers import tiny_config
from typer.main import get_command

from sweeps.cli import app
from sweeps.launch import device_of, gpus_of, require_fit
from sweeps.ledger import Ledger
from sweeps.placement.ray import RaySettings
from sweeps.placement.slurm import SlurmSettings
from sweeps.runner import SweepOptions
from sweeps.worker import main as worker_main
from syncvis import gpus
from syncvis.cli import train
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.execution import PLAIN, Execution

CUDA = Execution("cuda")
EIGHT = ("0", "1", "2", "3", "4", "5", "6", "7")


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs of compute capability 7.5."""

    def have(number, visible=None):
        monkeypatch.setattr(gpus, "_number_of_devices", lambda: number)
        monkeypatch.setattr(gpus, "capability", lambda name: (7, 5))
        if visible is None:
            monkeypatch.delenv(gpus.VISIBLE, raising=False)
        else:
            monkeypatch.setenv(gpus.VISIBLE, visible)

    return have


def options(processes=1, names=(), placement=None, execution=CUDA):
    return SweepOptions(gpus=names, execution=execution, processes=processes, placement=placement)


@pytest.mark.parametrize(
    ("device", "names", "placement", "expected"),
    [
        (None, (), None, "cpu"),
        (None, ("0",), None, "cuda"),
        ("cuda", (), None, "cuda"),
        (None, (), SlurmSettings(), "cpu"),
        (None, (), SlurmSettings(gpus_per_node=8), "cuda"),
        (None, (), SlurmSettings(gres="gpu:a100:4"), "cuda"),
        (None, (), SlurmSettings(gres="craynetwork:1"), "cpu"),
        (None, (), RaySettings(), "cpu"),
        (None, (), RaySettings(gpus=0.5), "cuda"),
        (None, (), RaySettings(gpus=0), "cpu"),
        ("cuda", (), RaySettings(), "cuda"),
        ("cpu", (), SlurmSettings(), "cpu"),
    ],
)
def test_the_device_follows_the_gpus_that_are_asked_for(device, names, placement, expected):
    assert device_of(device, names, placement) == expected


@pytest.mark.parametrize(
    ("device", "names", "placement", "said"),
    [
        ("cpu", ("0",), None, "--gpus: asks for GPUs that --device cpu leaves idle"),
        ("cpu", (), SlurmSettings(gpus_per_node=1), "--slurm gpus_per_node: asks for GPUs"),
        ("cpu", (), SlurmSettings(gres="gpu"), "--slurm gres: asks for GPUs"),
        ("cpu", (), RaySettings(gpus=1), "--gpus-per-trial: asks for GPUs"),
        ("cuda", (), SlurmSettings(), "--device cuda: asks SLURM for no GPU. Fix: add --slurm gpus_per_node=N"),
        ("cuda", (), RaySettings(gpus=0), "--gpus-per-trial: asks Ray for no GPU"),
        ("gpu", (), None, "--device: 'gpu' is no device"),
    ],
)
def test_a_device_that_contradicts_the_gpus_is_refused(device, names, placement, said):
    with pytest.raises(ConfigError) as error:
        device_of(device, names, placement)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("gres", "expected"),
    [(None, 0), ("gpu", 1), ("gpu:8", 8), ("gpu:a100:4", 4), ("gpu:a100", 1), ("gpu:a100:2(S:0-1),gpu:1,ssd:9", 3)],
)
def test_gres_counts_as_slurm_counts(gres, expected):
    assert SlurmSettings(gres=gres).gpus == expected
    assert SlurmSettings(gres=gres, gpus_per_node=2).gpus == 2


def test_gpus_are_those_that_this_machine_shows(machine):
    machine(8)
    assert gpus_of((), CUDA, None) == EIGHT
    assert gpus_of(("6", "1"), CUDA, None) == ("6", "1")
    assert gpus_of((), PLAIN, None) == ()
    machine(8, visible="4,5")
    assert gpus_of((), CUDA, None) == ("4", "5")
    assert gpus_of(("1",), CUDA, None) == ("5",)
    with pytest.raises(ConfigError, match=r"--gpus: there is no GPU 2. Fix: name some of 0, 1"):
        gpus_of(("0", "2"), CUDA, None)


def test_a_machine_without_gpus_is_named(machine):
    machine(0)
    for names in ((), ("0",)):
        with pytest.raises(ConfigError, match="GPUs: 1 needed, this machine shows 0"):
            gpus_of(names, CUDA, None)


@pytest.mark.parametrize("placement", [SlurmSettings(gpus_per_node=8), RaySettings(gpus=8)])
def test_gpus_of_this_machine_are_none_of_other_machines(machine, placement):
    machine(0)
    assert gpus_of((), CUDA, placement) == ()
    with pytest.raises(ConfigError, match=r"--gpus: names GPUs of this machine"):
        gpus_of(("0",), CUDA, placement)


def test_jobs_that_are_processes_of_this_machine_need_its_gpus(machine):
    machine(2)
    gpus_of((), CUDA, SlurmSettings("local", gpus_per_node=2))
    with pytest.raises(ConfigError, match="GPUs: 4 needed, this machine shows 2"):
        gpus_of((), CUDA, SlurmSettings("local", gpus_per_node=4))


@pytest.mark.parametrize("placement", [None, SlurmSettings(), RaySettings()])
def test_the_batch_of_every_cell_is_shared_out_equally_wherever_it_runs(placement):
    cells = [tiny_config({"train.batch_size": 8}), tiny_config({"train.batch_size": 8, "train.accumulate": 4})]
    require_fit(cells, options(2, placement=placement, execution=PLAIN))
    with pytest.raises(ConfigError) as error:
        require_fit(cells, options(4, placement=placement, execution=PLAIN))
    assert str(error.value).startswith(
        "train.batch_size: 8 clips cannot be shared by 4 processes in 4 passes (1 of 2 cells). Fix: use a multiple of 16"
    )
    assert "--processes-per-trial" in str(error.value)


@pytest.mark.parametrize(
    ("placement", "processes", "said"),
    [
        (SlurmSettings(gpus_per_node=8), 8, None),
        (SlurmSettings(gpus_per_node=1), 1, None),
        (SlurmSettings(gres="gpu:h100:4"), 4, None),
        (SlurmSettings(gpus_per_node=4), 8, "--slurm gpus_per_node: asks for 4 GPUs, and the 8 processes"),
        (SlurmSettings(gpus_per_node=8), 4, "--slurm gpus_per_node: asks for 8 GPUs, and the 4 processes"),
        (RaySettings(), 4, None),
        (RaySettings(gpus=4), 4, None),
        (RaySettings(gpus=0.5), 1, None),
        (RaySettings(gpus=0.5), 2, "--gpus-per-trial: asks for 0.5 GPUs, and the 2 processes"),
        (RaySettings(gpus=2), 1, "--gpus-per-trial: asks for 2 GPUs"),
    ],
)
def test_a_trial_has_one_gpu_for_each_of_its_processes(placement, processes, said):
    cells = [tiny_config({"train.batch_size": 8})]
    if said is None:
        require_fit(cells, options(processes, placement=placement))
        return
    with pytest.raises(ConfigError) as error:
        require_fit(cells, options(processes, placement=placement))
    assert str(error.value).startswith(said)


def test_one_trial_on_all_gpus_and_one_trial_per_gpu_are_both_said_simply(machine):
    machine(8)
    cells = [tiny_config({"train.batch_size": 8})]
    for processes, groups in ((8, [",".join(EIGHT)]), (1, list(EIGHT))):
        asked = options(processes, gpus_of(EIGHT, CUDA, None))
        require_fit(cells, asked)
        assert (asked.gpu_groups, asked.size) == (groups, len(groups))


def test_two_processes_of_a_trial_never_share_a_gpu_but_two_trials_may(machine):
    machine(8)
    cells = [tiny_config()]
    require_fit(cells, options(1, ("0", "0")))
    with pytest.raises(ConfigError, match=r"--gpus: two processes of one trial would share a GPU \(0,0\)"):
        require_fit(cells, options(2, ("1", "2", "0", "0")))


def test_a_precision_that_a_gpu_here_has_not_is_refused(machine):
    machine(1)
    cells = [tiny_config(), tiny_config({"train.precision": "bf16"})]
    require_fit(cells[:1], options(1, ("0",)))
    require_fit(cells, options(execution=PLAIN))
    require_fit(cells, options(1, placement=SlurmSettings(gpus_per_node=1)))  # another machine's GPU: told there
    with pytest.raises(ConfigError, match=r"train\.precision: this GPU has no bf16"):
        require_fit(cells, options(1, ("0",)))


@pytest.fixture
def launched(sweep, write_experiment, monkeypatch, tmp_path):
    """Call `run`; gives the options of the sweep that it would start, or raises its refusal."""
    started = []
    monkeypatch.setattr("sweeps.cli.Sweep.run", lambda sweep: started.append(sweep._options) or 0)
    write_experiment("nk")

    def launch(*words):
        sweep("run", "nk", "--scale", "smoke", *words)
        return started.pop()

    launch.nothing_begun = lambda: not Ledger(tmp_path / "outputs" / "ledger.db").view.studies()
    return launch


WORDS = ["--threads", 3, "--loader-workers", 2, "--checkpoint-activations", "--deterministic"]
FAR = {"slurm": ["--placement", "slurm"], "ray": ["--placement", "ray"]}


@pytest.fixture
def data(tiny_data, tmp_path):
    (tmp_path / "data").symlink_to(tiny_data)


@pytest.mark.usefixtures("data")
def test_options_reach_the_sweep(launched, machine):
    assert launched(*WORDS).execution == Execution("cpu", 3, 2, checkpoint_activations=True, deterministic=True)
    assert launched().execution == PLAIN
    machine(2)
    found = launched("--gpus", "0, 1", "--processes-per-trial", 2)
    assert (found.execution, found.gpu_groups, found.size) == (CUDA, ["0,1"], 1)


@pytest.mark.parametrize("far", [None, *FAR])
@pytest.mark.usefixtures("data")
def test_a_wrong_effective_batch_size_is_refused_before_the_queue(launched, far):
    with pytest.raises(
        ConfigError, match=r"train\.batch_size: 8 clips cannot be shared by 3 processes .*\(4 of 4 cells"
    ):
        launched("--processes-per-trial", 3, *FAR.get(far, []))
    assert launched.nothing_begun()


@pytest.mark.parametrize("far", [None, *FAR])
def test_absent_data_are_refused_before_the_queue_unless_the_jobs_machines_have_them(launched, far):
    with pytest.raises(DataError, match=r"data: data\.root: there is no such folder"):
        launched(*FAR.get(far, []))
    assert launched.nothing_begun()
    if far is None:
        with pytest.raises(ConfigError, match=r"--allow-missing: is for trials of other machines"):
            launched("--allow-missing")
    else:
        assert launched(*FAR[far], "--allow-missing").placement is not None


@pytest.mark.parametrize("far", [None, *FAR])
@pytest.mark.usefixtures("data")
def test_absent_initial_weights_are_refused_before_the_queue(launched, far, tmp_path):
    base = {"data": {"root": "data"}, "train": {"steps": 2, "init": "w.safetensors"}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    with pytest.raises(StorageError, match=r"w\.safetensors: train\.init: there is no such file"):
        launched(*FAR.get(far, []))
    assert launched.nothing_begun()
    if far:
        launched(*FAR[far], "--allow-missing")


def test_damaged_data_are_refused_even_so(launched, data, tmp_path, tiny_data):
    (tmp_path / "data").unlink()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "JPEGImages").symlink_to(tiny_data / "JPEGImages")
    for name in ("train.json", "valid.json"):
        (tmp_path / "data" / name).write_text("{}")
    with pytest.raises(DataError):
        launched(*FAR["slurm"], "--allow-missing")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes-per-trial", 3], "train.batch_size: 8 clips cannot be shared by 3 processes"),
        (["--gpus", "0,1"], "--gpus: there is no GPU 1"),
        (["--gpus", "0", "--device", "cpu"], "--gpus: asks for GPUs that --device cpu leaves idle"),
    ],
)
@pytest.mark.usefixtures("data")
def test_more_workers_are_refused_alike(sweep, outputs, machine, words, said):
    machine(1)
    with pytest.raises(ConfigError) as error:
        sweep("work", "nk", *words)
    assert str(error.value).startswith(said)


def test_more_workers_need_the_data_here(sweep, outputs):
    with pytest.raises(DataError, match=r"data: data\.root: there is no such folder"):
        sweep("work", "nk")


def test_a_worker_without_its_gpus_takes_no_cell(outputs, machine, tmp_path, capsys):
    machine(1)
    words = [str(tmp_path / "outputs" / "ledger.db"), "--device", "cuda", "--processes", "2"]
    assert worker_main(words) == ConfigError.exit_code
    assert capsys.readouterr().err.startswith("error: GPUs: 2 needed, this machine shows 1")
    assert outputs.view.counts()["planned"] == 1


def test_one_word_means_one_thing_in_every_command():
    trainer = typer.Typer()
    trainer.command()(train)
    commands = {"train": get_command(trainer), **get_command(app).commands}
    words = {name: {word for p in command.params for word in p.opts} for name, command in commands.items()}
    shared = {"--device", "--threads", "--loader-workers", "--checkpoint-activations", "--deterministic"}
    assert all(shared <= words[name] for name in ("train", "run", "work"))
    assert {name for name, known in words.items() if "--workers" in known} == {"run", "work", "plan"}
