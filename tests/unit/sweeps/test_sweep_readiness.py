"""Before the first cell: one error for data, weights or a disk that every cell would fail on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cells import finish

from sweeps.experiment import load_experiment, plan_cells, study_at
from sweeps.ledger import Ledger
from sweeps.readiness import lacking, left, look_at, require_disk
from syncvis.errors import DataError, StorageError
from syncvis.preflight import Findings


@pytest.fixture
def data(tiny_data, write_experiment, tmp_path, monkeypatch):
    """An experiment on a copy of a data set, whose cells nobody runs."""
    (tmp_path / "data").mkdir()
    for name in ("train.json", "valid.json"):
        shutil.copy(tiny_data / name, tmp_path / "data")
    (tmp_path / "data" / "JPEGImages").symlink_to(tiny_data / "JPEGImages")
    monkeypatch.setattr("sweeps.cli.Sweep.run", lambda sweep: 0)
    write_experiment("nk")
    return tmp_path / "data"


def empty(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))


def refusals(sweep, *words, kind=DataError):
    texts = []
    for command in ("plan", "run"):
        with pytest.raises(kind) as error:
            sweep(command, "nk", "--scale", "smoke", *words)
        texts.append(str(error.value))
    return texts


def test_whole_data_is_fine(sweep, data):
    assert sweep("plan", "nk", "--scale", "smoke").exit_code == sweep("run", "nk", "--scale", "smoke").exit_code == 0


@pytest.mark.parametrize("search", [None, {"sampler": "random", "trials": 2}])
def test_plan_and_run_refuse_a_split_that_no_cell_can_use(sweep, data, write_experiment, search, tmp_path):
    write_experiment("nk", search=search)
    empty(data / "valid.json")
    planned, run = refusals(sweep)
    assert planned == run
    assert planned.startswith("data/valid.json: annotations: has no annotated instance, so AP is undefined (2 videos, ")
    assert not Ledger(tmp_path / "outputs" / "ledger.db").view.studies(), "a mended experiment is not another study"
    empty(data / "train.json")
    assert refusals(sweep)[1].startswith("2 problems: (1) data/train.json: annotations: 4 videos, 0 annotations; ")


def test_the_parts_of_a_split_are_listed_by_plan_and_refused_before_any_queue(sweep, data, tmp_path, monkeypatch):
    """The folder is here, so that they are missing on every machine that shares it."""
    base = {"data": {"root": "data", "train": "train_split.json", "valid": "valid_split.json"}, "train": {"steps": 2}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    planned = sweep("plan", "nk", "--scale", "smoke")
    assert planned.exit_code == 0
    assert planned.output.splitlines()[-5:] == [
        "missing on this machine:",
        "  training data: data/train_split.json: data.train: there is no such file",
        "  validation data: data/valid_split.json: data.valid: there is no such file",
        "      syncvis data split data --split train.json --valid 0.2",
        "    or name files of your own with data.train and data.valid",
    ]
    with pytest.raises(DataError, match=r"train_split\.json: data\.train: there is no such file"):
        sweep("run", "nk", "--scale", "smoke")
    monkeypatch.chdir(tmp_path)
    configs = [cell.config for cell in plan_cells(load_experiment(tmp_path / "experiments" / "nk.yaml"), "smoke")]
    assert len(look_at(configs).wrong.problems) == 2, "refused, too, where other machines train"


def test_a_missing_split_of_data_that_are_here_is_refused_with_its_way(sweep, data):
    (data / "valid.json").unlink()
    planned, run = refusals(sweep)
    assert planned == run
    assert "data/valid.json: data.valid: there is no such file. Fix: set data.valid=FILE (there: train.json)" in planned
    assert "syncvis data split data" in planned


def test_data_of_another_machine_are_said_by_plan_and_refused_by_run_here(sweep, data):
    shutil.rmtree(data)
    planned = sweep("plan", "nk", "--scale", "smoke")
    assert planned.exit_code == 0
    wanted = ["missing on this machine:", "  data set: data: data.root: there is no such folder"]
    wanted += ["    put the data set there", "    or set data.root=FOLDER"]
    assert planned.output.splitlines()[-4:] == wanted
    with pytest.raises(DataError, match=r"data: data\.root: there is no such folder"):
        sweep("run", "nk", "--scale", "smoke")


def test_what_is_missing_is_listed_once_for_all_cells(data, write_experiment, tmp_path, monkeypatch):
    """The data of a part of the cells, weights of all of them, GPUs of a trial."""
    monkeypatch.chdir(tmp_path)
    base = {"data": {"root": "data"}, "train": {"steps": 2, "init": "weights/mask2former_coco_r50.safetensors"}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    axes = {"root": {"key": "data.root", "values": ["data", "data/ovis/train", "data/ytvis_2019/train"]}}
    study = study_at(load_experiment(write_experiment(axes=axes, seeds=[0, 1])), "smoke")
    found = look_at(left([study], None))
    assert found.faulty.problems == ()
    lines = lacking(found, gpus=(8, 1))
    assert lines[0] == "missing on this machine:"
    assert [" ".join(line.split()) for line in lines if line.startswith("  ") and line[2] != " "] == [
        "data set: data/ovis/train: data.root: there is no such folder",
        "data set: data/ytvis_2019/train: data.root: there is no such folder",
        "initial weights: weights/mask2former_coco_r50.safetensors: train.init: there",
        "GPUs: 1 of 8",
    ]
    assert max(map(len, lines)) <= 80
    assert len(lacking(found)) < len(lines), "GPUs are a matter of those who ask for them"
    empty(data / "valid.json")
    assert [problem.what for problem in look_at(left([study], None)).faulty.problems] == ["validation data"]


def test_nothing_is_missing(data, write_experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = study_at(load_experiment(write_experiment(seeds=[0])), "smoke")
    assert lacking(look_at(left([study], None)), gpus=(1, 1)) == []


def test_recipes_are_looked_at_without_torch(tmp_path):
    """As a plan of all experiments does, in a folder with nothing."""
    recipes = Path(__file__).parents[3] / "experiments" / "recipes"
    code = (
        "import sys\nfrom pathlib import Path\nfrom syncvis.config import load_config\n"
        "from sweeps.readiness import lacking, look_at\n"
        f"found = look_at([load_config(path) for path in Path({str(recipes)!r}).glob('*.yaml')])\n"
        "print(len(found.faulty.problems), len(lacking(found)) > 20, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "0 True False\n"


def test_notes_are_said(sweep, data, monkeypatch):
    found = SimpleNamespace(lacking=(), faulty=Findings(), notes=("train.json: read as stills",), refuse=lambda: None)
    found.wrong = found
    for module, command in (("sweeps.launch", "run"), ("sweeps.commands.plan", "plan")):
        monkeypatch.setattr(f"{module}.look_at", lambda configs: found)
        assert "note: train.json: read as stills" in sweep(command, "nk", "--scale", "smoke").output


def test_initial_weights_are_looked_at(sweep, data, tmp_path):
    base = {"data": {"root": "data"}, "train": {"steps": 2, "init": "w.safetensors"}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    (tmp_path / "w.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    for text in refusals(sweep, kind=StorageError):
        assert text.startswith("w.safetensors: train.init: is a Git LFS pointer")


def test_only_cells_that_have_not_ended_need_anything(write_experiment, add, tmp_path):
    ledger, path = Ledger(tmp_path / "ledger.db"), write_experiment("nk", seeds=[0])
    study, cells = study_at(load_experiment(path), "smoke"), plan_cells(load_experiment(path), "smoke")
    assert left([study], None) == left([study], ledger.view) == [cell.config for cell in cells]
    add(ledger, cells)
    finish(ledger)
    assert left([study], ledger.view) == [cells[1].config]
    ledger.fail(ledger.claim("host:boot:1:1", 60), "no matter", final=True)
    assert left([study], ledger.view) == []
    assert left([study], ledger.view, retry=True) == [cells[1].config]


def test_a_search_needs_what_the_cells_that_it_may_choose_need(write_experiment):
    axes = {"root": {"key": "data.root", "values": ["a", "b"]}}
    path = write_experiment(axes=axes, search={"sampler": "random", "trials": 9}, seeds=[0])
    assert {config.data.root for config in left([study_at(load_experiment(path), "smoke")], None)} == {"a", "b"}


def test_the_disk_holds_the_checkpoints_of_the_cells_at_once(write_experiment, tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(b"x" * 1000)
    base = {"data": {"root": "data"}, "train": {"steps": 2, "init": str(tmp_path / "w")}}
    (tmp_path / "experiments" / "base" / "smoke.yaml").write_text(json.dumps(base))
    configs = [cell.config for cell in plan_cells(load_experiment(write_experiment()), "smoke")]
    need = 3 * 3 * 1000
    for workers, free in ((1, need), (2, 2 * need), (9, 4 * need)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        require_disk(tmp_path / "out", configs, workers)
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free - 1))
        with pytest.raises(StorageError, match="the checkpoints of"):
            require_disk(tmp_path / "out", configs, workers)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        require_disk(tmp_path / "file", [], 1)
