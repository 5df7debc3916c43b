"""``syncvis weights import``, up to a run that starts from its file."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import official_skeleton as official
import pytest
import torch
from helpers import TINY, tiny_config

from syncvis import cli
from syncvis.config import set_dotted
from syncvis.errors import StorageError
from syncvis.interop.importing import import_file
from syncvis.methods import build
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.training.checkpoint import initialise, read_weights
from syncvis.weights import read_header

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """``syncvis weights import`` in a folder with a config: (exit code, stdout, stderr)."""
    monkeypatch.setattr(cli, "_add_plugins", lambda: None)
    monkeypatch.chdir(tmp_path)
    _write_config(official.MODEL_CONFIG)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["syncvis", "weights", "import", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def _write_config(model: dict[str, Any]) -> None:
    Path("config.yaml").write_text(json.dumps(set_dotted(TINY, "model", model)))  # JSON is YAML


def _start(**changes: object) -> tuple[set[str], dict[str, torch.Tensor]]:
    """Start a model for 3 classes from the imported file: what is fresh, and its weights."""
    torch.manual_seed(3)
    model = build(tiny_config({"model": official.MODEL_CONFIG, **changes}), 3)
    return set(initialise(model, "weights.safetensors")), model.state_dict()


def test_a_released_model_becomes_the_start_of_a_run(command: Run) -> None:
    stored = official.released_syncvis(classes=80)
    torch.save({"model": stored, "iteration": 1}, "syncvis.pth")
    code, out, err = command("syncvis.pth", "config.yaml")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "file: Mask2Former with detectron2 ResNet"
    assert lines[1] == "backbone: 265 loaded"
    assert lines[3] == "decoder: 93 loaded; fresh 28 (exchange, which is SyncVIS' own)"
    report = Path("weights.safetensors.report.txt").read_text()
    assert all(f" {key}" in report for key in stored)
    assert "not used: syncvis_module.fq_pos.weight: VITA's second stage" in report

    fresh, state = _start()
    assert {name for name in fresh if not name.startswith("decoder.sync.")} == {
        "decoder.stacks.0.heads.class_embed.weight",
        "decoder.stacks.0.heads.class_embed.bias",
    }
    assert torch.equal(state["backbone.stem.weight"], stored["backbone.stem.conv1.weight"])


def test_a_backbone_becomes_the_start_of_a_run(command: Run) -> None:
    stored = official.random_state(official.resnet())
    content = {"model": {k: x.numpy() for k, x in stored.items()}, "__author__": "torchvision"}
    Path("R-50.pkl").write_bytes(pickle.dumps(content))
    code, out, _ = command("R-50.pkl", "config.yaml")
    assert code == 0
    assert "backbone: 265 loaded\n" in out
    assert "pixel_decoder: 0 loaded; fresh 53 (the file is a backbone alone)\n" in out
    about = read_header("weights.safetensors").about
    assert (about["source"], about["kind"], len(about["sha256"])) == ("R-50.pkl", "detectron2 ResNet", 64)
    fresh, state = _start()
    assert fresh == {name for name in state if not name.startswith("backbone.")}


def test_a_swin_of_imagenet_is_whole_with_its_output_norms(command: Run) -> None:
    torch.save({"model": official.random_state(official.swin(output_norms=False))}, "swin.pth")
    backbone = {"name": "swin_t", **official.SWIN}
    _write_config({**official.MODEL_CONFIG, "backbone": backbone})
    code, out, _ = command("swin.pth", "config.yaml")
    assert code == 0
    assert "fresh 8 (output norm of a Swin, which files of ImageNet lack)" in out
    fresh, _ = _start(**{"model.backbone": backbone})
    assert not any(name.startswith("backbone.") for name in fresh)
    assert torch.equal(read_weights("weights.safetensors")["backbone.norms.0.weight"], torch.ones(official.SWIN["dim"]))


def _categories(names: Sequence[str]) -> None:
    Path("unused").mkdir()
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    Path("unused/train.json").write_text(json.dumps({"videos": [], "annotations": [], "categories": categories}))


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            None,
            "class head: 5 classes in the file, those of the config are not there to compare: starts fresh on data of",
        ),
        ("abc", "class head: 5 classes in the file, 3 in the config: starts fresh\n"),
        (
            "abcde",
            "class head: 5 classes in the file and in the config: taken over; the classes of the file are unknown\n",
        ),
    ],
)
def test_the_class_head_is_said(command: Run, names: str | None, line: str) -> None:
    if names is not None:
        _categories(names)
    torch.save(official.mask2former(classes=5), "model.pth")
    code, out, _ = command("model.pth", "config.yaml")
    assert (code, line in out) == (0, True)
    assert line.strip() in Path("weights.safetensors.report.txt").read_text()


def test_a_prefix_and_what_is_passed_over_are_said(command: Run) -> None:
    stored = official.mask2former()
    wrapped = {f"model.module.{name}": tensor for name, tensor in stored.items()} | {"extra_ema": torch.tensor(0.9)}
    torch.save({"state_dict": wrapped, "pytorch-lightning_version": "2.0"}, "model.ckpt")
    code, out, _ = command("model.ckpt", "config.yaml")
    assert code == 0
    assert f"note: prefix 'model.module.' cut from {len(stored)} names\n" in out
    assert "left out 1 (one number, outside of the model): state_dict.extra_ema\n" in out
    report = Path("weights.safetensors.report.txt").read_text()
    assert "left out: state_dict.extra_ema: one number, outside of the model\n" in report


def test_one_of_two_sets_is_chosen(command: Run) -> None:
    stored = official.mask2former()
    average = {f"ema_model.{name}": tensor * 2 for name, tensor in stored.items()}
    torch.save(average | {f"model.{name}": tensor for name, tensor in stored.items()}, "model.pth")
    code, _, err = command("model.pth", "config.yaml")
    assert (code, "--prefix model. or --prefix ema_model." in err) == (4, True)
    code, _, _ = command("model.pth", "config.yaml", "--prefix", "ema_model.")
    assert code == 0
    found = read_weights("weights.safetensors")["backbone.stem.weight"]
    assert torch.equal(found, 2 * stored["backbone.stem.conv1.weight"])


def test_arguments_in_the_wrong_order(command: Run) -> None:
    torch.save(official.mask2former(), "model.pth")
    Path("other.yaml").write_text("model:\n  hidden_dim: 32\n")
    code, _, err = command("other.yaml", "model.pth")
    assert (
        code,
        err.startswith("error: other.yaml: is a YAML file, a config perhaps. Fix: give the weights first"),
    ) == (
        4,
        True,
    )


def test_the_same_file_gives_the_same_weights(command: Run) -> None:
    torch.save(official.mask2former(), "model.pth")
    for name in ("a", "b"):
        assert command("model.pth", "config.yaml", "--out", name)[0] == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_a_misfit_is_one_line_and_a_report(command: Run) -> None:
    torch.save(official.mask2former(), "model.pth")
    code, out, err = command("model.pth", "config.yaml", "model.decoder.layers=6", "--out", "new/w.safetensors")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith("error: model.pth: does not fit the model: tensors that the file lacks (78): ")
    assert err.endswith("all names are in new/w.safetensors.report.txt\n")
    assert len(Path("new/w.safetensors.report.txt").read_text().splitlines()) == 78
    assert not Path("new/w.safetensors").exists()


def test_a_file_that_is_not_there(command: Run) -> None:
    code, out, err = command("gone.pth", "config.yaml")
    assert (code, out) == (4, "")
    assert err.startswith("error: gone.pth: cannot be read")
    assert sorted(path.name for path in Path().iterdir()) == ["config.yaml"]


def test_an_image_model_starts_all_of_tmt_vis_but_the_taxonomy(command: Run) -> None:
    """Whose text is read before a training, not at the import."""
    method = {"name": "tmt_vis", "text": "none.safetensors", "width": 6}
    changes = {"model": official.MODEL_CONFIG, "method": method, "sync": None}
    Path("config.yaml").write_text(json.dumps(tiny_config(changes).model_dump(mode="json")))
    torch.save(official.mask2former(classes=3), "model.pth")
    code, out, err = command("model.pth", "config.yaml")
    assert (code, err) == (0, "")
    assert "taxonomy: 0 loaded; fresh 23 (taxonomy, of which the file has nothing)\n" in out
    fresh, state = _start(method=method, sync=None)
    assert fresh == {name for name in state if name.startswith("taxonomy.")}


def test_layers_that_the_method_declares_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the published file to the start of a run."""
    stored = official.mask2former()
    del stored["sem_seg_head.predictor.level_embed.weight"]
    torch.save(stored, tmp_path / "model.pth")
    config = tiny_config({"model": official.MODEL_CONFIG, "sync": None})
    with pytest.raises(StorageError, match=r"file lacks \(1\): decoder\.stacks\.0\.level_embed\.weight"):
        import_file(tmp_path / "model.pth", config, tmp_path / "out.safetensors")
    monkeypatch.setattr(Mask2FormerVIS, "fresh", ("decoder.stacks.0.level_embed",))
    words = import_file(tmp_path / "model.pth", config, tmp_path / "out.safetensors")
    assert any("fresh 1 (decoder.stacks.0.level_embed, of which the file has nothing)" in line for line in words)
    assert initialise(build(config, 5), tmp_path / "out.safetensors") == ["decoder.stacks.0.level_embed.weight"]
