"""``syncvis weights import``, up to a run that starts from its file."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import official_skeleton as official
import pytest
import torch
from helpers import TINY, tiny_config
from safetensors import safe_open

from syncvis import cli
from syncvis.config import set_dotted
from syncvis.methods import build
from syncvis.training.checkpoint import initialise, read_weights

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
    with safe_open("weights.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["source"], metadata["kind"], len(metadata["sha256"])) == ("R-50.pkl", "detectron2 ResNet", 64)
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
