"""TMT-VIS from its file of class-name embeddings to tracks: a training, and what is left when the file is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import MODULES, TINY, logged_rows, tiny_config
from safetensors.torch import load_file

from syncvis.data.class_text import read_class_text
from syncvis.errors import DataError, Interrupted, StorageError
from syncvis.files import fingerprint
from syncvis.training.run import Runtime, run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def text(syncvis: Run, tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "text.safetensors"
    assert syncvis("data", "text", tiny_data, "--width", 16, "--out", path)[0] == 0
    return path


def _changes(text: Path, modules: str) -> dict[str, Any]:
    return {"method": {"name": "tmt_vis", "text": str(text), "width": 16, "selected": 3}, **MODULES[modules]}


@pytest.mark.parametrize("modules", ["none", "+both"])
def test_a_finished_run_needs_no_file(modules: str, syncvis: Run, text: Path, tiny_data: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    tree = tiny_config(_changes(text, modules) | {"train.steps": 3}, tiny_data).model_dump(mode="json")
    config.write_text(yaml.safe_dump(tree))
    code, said, _ = syncvis("train", config, "--dry-run")
    assert (code, "taxonomy" in said, "MISSING ON THIS MACHINE: nothing" in said) == (0, True, True)
    assert syncvis("train", config, "--out", out)[0] == 0
    result = json.loads((out / "result.json").read_text())
    assert result["text_fingerprint"] == fingerprint(text)
    assert result["parameters"]["taxonomy"] == (16 + 1) * 32 + 2 * (32 + 1) * 32 + 8 * (32 + 1) * 32
    names = [category["name"] for category in json.loads((tiny_data / "train.json").read_text())["categories"]]
    rows = load_file(out / "model.safetensors")["taxonomy.class_text.weight"]
    assert rows.tolist() == read_class_text(text).rows(names).tolist()

    text.unlink()
    code, said, _ = syncvis("eval", out, "--split", "valid.json")
    assert code == 0
    assert f"{result['metrics']['AP']:.1f}" in said
    frame = json.loads((tiny_data / "test.json").read_text())["videos"][0]["file_names"][0]
    assert syncvis("infer", out, (tiny_data / "JPEGImages" / frame).parent, "--out", tmp_path / "tracks")[0] == 0
    assert json.loads((tmp_path / "tracks" / "results.json").read_text())


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(text: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = tiny_config(_changes(text, "+both"), tiny_data)
    run(config, tmp_path / "whole")
    last: list[float] = []
    stop = Runtime(on_row=lambda _, row: last.append(row["step"] or 0), should_stop=lambda: last[-1] == 3)
    with pytest.raises(Interrupted):
        run(config, tmp_path / "parts", stop)
    run(config, tmp_path / "parts")
    assert logged_rows(tmp_path / "parts") == logged_rows(tmp_path / "whole")
    found, wanted = (load_file(tmp_path / out / "model.safetensors") for out in ("parts", "whole"))
    assert all(x.equal(wanted[name]) for name, x in found.items())


def test_a_file_that_does_not_fit_is_refused_before_the_first_step(
    syncvis: Run, text: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    tree = {**TINY, "data": {**TINY["data"], "root": str(tiny_data)}, **_changes(text, "none")}
    config.write_text(yaml.safe_dump(tree))
    code, _, err = syncvis("train", config, "method.width=8", "--out", out)
    assert (code, "method.text: has 16 numbers for each class" in err) == (DataError.exit_code, True)
    text.unlink()
    code, _, err = syncvis("train", config, "--out", out)
    assert (code, "method.text: there is no such file" in err) == (StorageError.exit_code, True)
    assert not (out / "config.yaml").exists()
