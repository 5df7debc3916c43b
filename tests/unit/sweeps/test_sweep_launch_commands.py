"""run, work and workers: their options, and what they refuse before the first cell and before the queue."""

from __future__ import annotations

import json

import pytest
import typer
from typer.main import get_command

from sweeps.cli import app
from sweeps.ledger import Ledger
from sweeps.worker import main as worker_main
from syncvis.cli import train
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.execution import PLAIN, Execution

CUDA = Execution("cuda")


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
