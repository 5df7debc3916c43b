"""The dry run: what it says of recipes, of a machine with the data, and of batches that cannot be shared out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import TINY, tiny_config
from pydantic import BaseModel

from syncvis.config import load_config, set_dotted
from syncvis.errors import DataError, StorageError
from syncvis.methods import build
from syncvis.training import dry_run as module
from syncvis.training.checkpoint import save_weights
from syncvis.training.cost import training_size
from syncvis.training.dry_run import dry_run
from syncvis.training.dry_run_text import _settings, render

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "experiments" / "recipes"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)


def _config(root: Path, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text("# Differs: nothing, it is a test.\n" + yaml.safe_dump(set_dotted(TINY, "data.root", str(root))))
    return path


@pytest.mark.usefixtures("no_gpu")
def test_a_recipe_without_data(syncvis: Run, tmp_path: Path) -> None:
    recipe = RECIPES / "mask2former_vis_ytvis_2019_r50.yaml"
    code, out, err = syncvis("train", recipe, "--dry-run", "--device", "cuda")
    assert (code, err) == (0, "")
    for part in ("43,959,977", "23,454,912", "6,035,904", "K = 40 (ytvis_2019, by its name)", "6,000, lr 0.0001"):
        assert part in out
    assert "16 clips = 8 (GPUs) x 1 (passes) x 2" in out
    for part in (
        "data/ytvis_2019/train: data.root: there is no",
        "weights/mask2former_coco_r50.safetensors",
        "GPUs: 0 of 8",
    ):
        assert part in out.split("MISSING ON THIS MACHINE")[1]
    assert "kept for validation" in out.split("DIFFERS FROM THE PUBLISHED RECIPE")[1]
    assert list(tmp_path.iterdir()) == []
    assert "GPUs: " not in syncvis("train", recipe, "--dry-run")[1], "the default device is the CPU"
    assert "GPUs: 0 of 2" in syncvis("train", recipe, "--dry-run", "--gpus", 2)[1]


@pytest.mark.usefixtures("no_gpu")
def test_what_initial_weights_leave_open(syncvis: Run, tmp_path: Path) -> None:
    config, init = _config(tmp_path / "no data", tmp_path), tmp_path / "init.safetensors"
    save_weights(init, build(tiny_config({"sync": None}), 3), {})
    code, out, _ = syncvis("train", config, f"train.init={init}", "--dry-run")
    words = "fresh: class head (3 classes in the file, 40 here), exchange (decoder.sync)"
    assert (code, f"weights  {init}: {words}\n" in out) == (0, True)
    _, out, _ = syncvis("train", config, f"train.init={init}", "--dry-run", "--json")
    assert json.loads(out)["initial_weights"] == words
    init.write_bytes(init.read_bytes()[:-10])
    code, out, _ = syncvis("train", config, f"train.init={init}", "--dry-run")
    assert code == StorageError.exit_code
    assert f"initial weights: {init}: train.init: ends early" in " ".join(out.split())


@pytest.mark.usefixtures("no_gpu")
def test_json_and_passes(syncvis: Run) -> None:
    recipe = RECIPES / "syncvis_ovis_r50.yaml"
    words = ("train", recipe, "data.frames=1", "train.accumulate=4", "--dry-run", "--json", "--gpus", 2)
    code, out, _ = syncvis(*words)
    found = json.loads(out)
    assert (code, found["num_classes"], found["gpus"], found["clips"]) == (0, 25, 2, 1)
    assert found["size"] == [448, 768]
    assert found["step_flops"]["backbone"] == 4 * 3 * found["forward"]["flops"]["backbone"]
    assert found["config"]["train"]["accumulate"] == 4
    assert any("no OVIS config" in line for line in found["differs"])
    assert found["memory_total"] == sum(found["memory"].values())


@pytest.mark.usefixtures("no_gpu")
def test_classes_and_splits_come_from_the_data(tiny_data: Path, tmp_path: Path) -> None:
    path = _config(tiny_data, tmp_path)
    found = dry_run(load_config(path), path)
    assert found.classes_from == f"categories of {tiny_data / 'train.json'}"
    assert found.num_classes == len(json.loads((tiny_data / "train.json").read_text())["categories"])
    assert ([item.what for item in found.missing], found.notes, found.exit_code) == ([], [], 0)
    assert found.differs == ["nothing, it is a test."]
    table = next(section for section in render(found).split("\n\n") if section.startswith("PARAMETERS"))
    assert len({len(line) for line in table.splitlines()}) == 1, "the columns are flush"
    assert found.parameters["heads"].total == (32 + 1) * (found.num_classes + 1) + 64 + 2 * (32 * 33) + 16 * 33


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("damage", "what", "problem"),
    [
        (lambda root: (root / "valid.json").unlink(), "validation data", "there is no such file"),
        (lambda root: (root / "train.json").write_text("{"), "training data", "not valid JSON"),
    ],
    ids=["absent", "damaged"],
)
def test_bad_data_is_said_with_its_fix(
    tiny_data: Path, tmp_path: Path, damage: Callable[[Path], object], what: str, problem: str
) -> None:
    (tmp_path / "JPEGImages").symlink_to(tiny_data / "JPEGImages")
    for name in ("train.json", "valid.json"):
        (tmp_path / name).write_bytes((tiny_data / name).read_bytes())
    damage(tmp_path)
    path = _config(tmp_path, tmp_path)
    found = dry_run(load_config(path), path)
    assert [(item.what, problem in item.problem, bool(item.fix)) for item in found.missing] == [(what, True, True)]
    assert found.exit_code == DataError.exit_code
    known = what == "validation data"
    assert found.classes_from == (f"categories of {tmp_path / 'train.json'}" if known else "assumed: no data set tells")


def test_gpus_that_are_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 10 * 2**30

    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(module.torch.cuda, "get_device_properties", lambda index: Properties)
    monkeypatch.setattr(module.torch.cuda, "get_device_capability", lambda index: (7, 5))
    needed = module.Memory(2**30, 2**30, 2**30, 8 * 2**30)
    missing = module._missing_gpus(1, needed, "fp16")
    assert [(item.what, item.problem) for item in missing] == [
        ("GPU memory", "GPU 0 has 10.00 GiB, a step needs about 11.00 GiB")
    ]
    small = module.Memory(1, 1, 1, 1)
    assert [item.problem for item in module._missing_gpus(3, small, "fp16")] == ["2 of 3"]
    (old,) = module._missing_gpus(1, small, "bf16")
    assert (old.what, old.fix.split(",")[0]) == ("GPU 0", "set train.precision=fp16")
    assert "has no bf16 (compute capability 7.5, bf16 needs 8.0)" in old.problem


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--dry-run", "--gpus", 3], ["train.batch_size", "8 clips cannot be shared out over 3 GPUs and 1 passes"]),
        (["--dry-run", "train.accumulate=8"], ["train.batch_size", "8 GPUs and 8 passes"]),
        (["--dry-run", "train.stepz=1"], ["train.stepz is not a known key (did you mean 'steps'?)"]),
        (["--gpus", 2], ["--dry-run"]),
        (["--json"], ["--dry-run"]),
    ],
    ids=str,
)
def test_bad_requests_are_one_line(syncvis: Run, words: list[object], parts: list[str]) -> None:
    code, out, err = syncvis("train", RECIPES / "syncvis_ovis_r50.yaml", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert all(part in err for part in parts), err


@pytest.mark.parametrize(
    ("name", "size"), [("syncvis_ytvis_2019_r50", (448, 768)), ("mask2former_vis_ytvis_2019_r50", (480, 864))]
)
def test_sizes_that_costs_are_counted_for(name: str, size: tuple[int, int]) -> None:
    """512 x 910 shrinks to 432 x 768, then is padded; 480 x 853 is not bounded."""
    assert training_size(load_config(RECIPES / f"{name}.yaml")) == size


def test_a_method_is_named_with_its_choices_and_what_is_not_at_its_default() -> None:
    class Settings(BaseModel):
        name: str = "mine"
        window: int = 6
        stage: str | None = None
        kind: str = "shifted"
        causal: str = "off"
        compat: bool = False

    assert _settings(Settings()) == "mine, shifted"
    assert _settings(Settings(window=5, stage="last", kind="plain")) == "mine, window 5, last, plain"
    assert _settings(Settings(causal="prefix", compat=True)) == "mine, shifted, prefix, compat True"
    assert _settings(tiny_config().method) == "mask2former_vis, synchronous"
