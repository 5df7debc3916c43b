"""What a launch asks for: devices, GPUs, processes and batches that fit together, or one error before the queue."""

from __future__ import annotations

import pytest
from helpers import tiny_config

from sweeps.launch import device_of, gpus_of, require_fit
from sweeps.placement.ray import RaySettings
from sweeps.placement.slurm import SlurmSettings
from sweeps.runner import SweepOptions
from syncvis.errors import ConfigError
from syncvis.execution import PLAIN, Execution

CUDA = Execution("cuda")
EIGHT = ("0", "1", "2", "3", "4", "5", "6", "7")


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
    problem = "train.batch_size: 8 clips cannot be shared by 4 processes in 4 passes (1 of 2 cells)"
    assert str(error.value).startswith(f"{problem}. Fix: use a multiple of 16")
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
