"""The table of published weights: a row for each file that a recipe starts from, and the command that makes it."""

from __future__ import annotations

import json
import pickle
import shlex
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import official_skeleton as official
import pytest
import torch
from torch import Tensor

from syncvis.config import RunConfig, load_config
from syncvis.methods import build
from syncvis.preflight.published_weights import PublishedWeights, published_weights
from syncvis.preflight.weights import look_at_weights
from syncvis.training.start import start_from

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "experiments" / "recipes").glob("*.yaml"))
TABLE = published_weights()

Run = Callable[..., tuple[int, str, str]]


def _starts() -> dict[str, list[Path]]:
    """Each ``train.init`` of the recipes, and the recipes that start from it."""
    found = defaultdict(list)
    for recipe in RECIPES:
        found[str(load_config(recipe).train.init)].append(recipe)
    return dict(found)


STARTS = _starts()


def test_each_start_of_a_recipe_has_a_row_and_each_row_a_recipe() -> None:
    assert set(STARTS) == {f"weights/{name}" for name in TABLE}
    assert all(ROOT / row.config in STARTS[f"weights/{row.name}"] for row in TABLE.values())


@pytest.mark.parametrize("row", TABLE.values(), ids=list(TABLE))
def test_the_recipes_name_the_same_file(row: PublishedWeights) -> None:
    """In the comment above ``init``."""
    parts = [path.read_text() for path in (ROOT / "experiments" / "recipes" / "parts").glob("*.yaml")]
    (part,) = (text for text in parts if f"init: weights/{row.name}" in text)
    assert row.file in part.split(f"train: {{init: weights/{row.name}")[0].splitlines()[-1]


@pytest.mark.parametrize("row", TABLE.values(), ids=list(TABLE))
def test_docs_have_the_row(row: PublishedWeights) -> None:
    (line,) = (line for line in (ROOT / "docs" / "weights.md").read_text().splitlines() if f"`{row.name}`" in line)
    assert all(part in line for part in (row.what, f"`{row.file}`", row.page, row.commit))


def _shrunken(recipe: Path, where: Path) -> RunConfig:
    """Write a recipe in the sizes of the skeleton under its own name."""
    config = load_config(recipe)
    swin = {**official.SWIN, "drop_path": 0.0}
    backbone = swin if config.model.backbone.name.startswith("swin") else {"width": official.WIDTH}
    sizes = {key: value for key, value in official.MODEL_CONFIG.items() if key != "backbone"}
    tree: dict[str, Any] = {"base": str(recipe), "model": {**sizes, "backbone": backbone}}
    if config.method.name == "vita":
        tree["method"] = {
            "clip_queries": official.CLIP_QUERIES,
            "ffn_dim": official.CLIP_FFN,
            "encoder_layers": official.TEMPORAL_ENCODER_LAYERS,
            "decoder_layers": official.CLIP_LAYERS,
            "heads": official.HEADS,
        }
    path = where / recipe.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))  # JSON is YAML
    return load_config(path)


def _published(row: PublishedWeights) -> dict[str, Tensor]:
    """Names as published, in the sizes of the skeleton, with COCO's 80 classes."""
    make = official.vita if row.name.startswith("vita") else official.mask2former
    if "swin" in row.name:
        return make(80, backbone=official.swin())
    deep = official.random_state(official.resnet(depths=(3, 4, 23, 3))) if "r101" in row.name else {}
    return make(80) | {f"backbone.{name}": tensor for name, tensor in deep.items()}


@pytest.mark.parametrize("row", TABLE.values(), ids=list(TABLE))
def test_the_command_of_the_fix_makes_the_start_of_every_recipe(
    row: PublishedWeights, syncvis: Run, tmp_path: Path
) -> None:
    """The command as it is printed, where the official file lies in the working directory."""
    init, recipes = f"weights/{row.name}", STARTS[f"weights/{row.name}"]
    configs = [_shrunken(recipe, tmp_path / "experiments" / "recipes") for recipe in recipes]
    (problem,) = look_at_weights(init)
    assert problem.state == "absent"
    get, command, other = str(problem.error.fix).replace("; or ", "; then ").split("; then ")
    assert get == f"get {row.file} ({row.what}) from {row.page}"
    assert other == "train.init=null"
    stored = _published(row)
    if row.file.endswith(".pkl"):
        content = {"model": {name: x.numpy() for name, x in stored.items()}, "__author__": "publisher"}
        Path(row.file).write_bytes(pickle.dumps(content))
    else:
        torch.save({"model": stored}, row.file)
    code, out, err = syncvis(*shlex.split(command)[1:])
    assert (code, err) == (0, "")
    assert "not used" not in out, "the config of the table takes every tensor"
    assert look_at_weights(init) == []
    for config in configs:
        words = start_from(build(_without_text(config), 40), init, None).words
        assert "fresh: class head (80 classes in the file, 40 here)" in words
        assert "backbone" not in words
        assert "pixel decoder" not in words


def _without_text(config: RunConfig) -> RunConfig:
    """With learned embeddings of the classes, where a method would read a file."""
    if config.method.class_text is None:
        return config
    return config.model_copy(update={"method": config.method.model_copy(update={"text": "learned"})})


def test_another_name_has_the_general_fix() -> None:
    (problem,) = look_at_weights("my weights.safetensors")
    assert problem.error.fix == (
        "get weights from their publisher (docs/weights.md); then syncvis weights import FILE CONFIG "
        "--out 'my weights.safetensors'; or train.init=null"
    )
