"""Reading configs: YAML, bases, overrides, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import TINY

from syncvis.config import (
    STRUCTURES,
    load_config,
    merge,
    parse_overrides,
    parse_yaml,
    read_layers,
    read_tree,
    read_yaml,
    resolve,
    set_dotted,
)
from syncvis.errors import ConfigError

BASE = Path(__file__).parents[3] / "experiments" / "base"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str | bytes, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def _tree(**changes: Any) -> dict[str, Any]:
    tree = TINY
    for key, value in changes.items():
        tree = set_dotted(tree, key.replace("__", "."), value)
    return tree


def _problem(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(tree, "some.yaml")
    text = str(error.value)
    assert text.startswith("some.yaml: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("path", sorted(BASE.glob("*.yaml")), ids=lambda path: path.name)
def test_every_base_config_resolves(path: Path) -> None:
    assert load_config(path).train.steps > 0


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("sync__momentun", "momentum"),
        ("model__decoder__layer", "layers"),
        ("modle", "model"),
        ("subclips__window", "windows"),
        ("train__batchsize", "batch_size"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest(key: str, near: str) -> None:
    text = _problem(_tree(**{key: 1}))
    assert f"{key.replace('__', '.')} is not a known key (did you mean {near!r}?)" in text


def test_a_key_like_no_other_has_no_suggestion() -> None:
    assert "did you mean" not in _problem(_tree(zzzzzz=1))


def test_all_problems_at_once() -> None:
    text = _problem(_tree(sync__momentum=2, train__steps=-1, model__depth=3, data__root=None))
    assert "4 problems" in text
    for part in ("sync.momentum", "train.steps", "model.depth", "data.root"):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method__structure": "cascade"}, "sync"),
        ({"method__structure": "frame_only", "sync": None}, "subclips"),
        ({"model__decoder__heads": 3}, "hidden_dim 32 is not divisible by 3 heads"),
        ({"method__structure": "parallel"}, "method.structure: must be " + ", ".join(STRUCTURES)),
        ({"data__frames": 0}, "data.frames"),
        ({"model__backbone__base_stride": 3}, "model.backbone.base_stride"),
        # Group norms divide these; the model could not be built.
        ({"model__hidden_dim": 48}, "model.hidden_dim"),
        ({"model__backbone__width": 12}, "model.backbone.width"),
        ({"data__short_side": []}, "data.short_side"),
        ({"train__lr": float("inf")}, "train.lr"),
        ({"train__lr": float("nan")}, "train.lr"),
        ({"criterion__mask_weight": float("inf")}, "criterion.mask_weight"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], named: str) -> None:
    assert named in _problem(_tree(**changes))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"seed: 0\nseed: 1\n", "line 2, column 1: duplicate key 'seed'"),
        (b"train: {lr: 1, lr: 2}\n", "duplicate key 'lr'"),
        (b"seed: [1, 2\ntrain: 3\n", "line 2"),
        (b"seed: 0\n\ttrain: 1\n", "line 2"),
        (b"- seed\n", "is not a mapping"),
        (b"", "is not a mapping"),
        (b"seed: \xff\xfe\n", "UTF-8"),
        (b"? [a, b]\n: 1\n", "line 1"),
        (b"base: 5\n", "base"),
        (b"base: [5]\n", "base"),
        (b"data: {root: '${nothing.there}'}\n", "nothing.there"),
        (b"seed: !!python/object/apply:os.getcwd []\n", "line 1"),
    ],
    ids=str,
)
def test_broken_yaml_names_file_and_place(write: Write, text: bytes, named: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(str(path))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / name)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", ".1e-2", "+1e-3"])
def test_numbers_with_an_exponent_are_numbers(text: str) -> None:
    assert parse_yaml(f"lr: {text}", "text") == {"lr": 0.001}
    assert parse_overrides([f"train.lr={text}"]) == {"train": {"lr": 0.001}}


def test_base_chain(write: Write, tmp_path: Path) -> None:
    """Each file is the difference to its base, which is relative to the file; null removes a section."""
    (tmp_path / "far").mkdir()
    write(yaml.safe_dump(TINY), "far/root.yaml")
    write("base: root.yaml\ntrain: {lr: 0.5}\nseed: 3\n", "far/middle.yaml")
    leaf = write("base: far/middle.yaml\nsync: null\ntrain: {steps: 9}\ndata: {short_side: [64]}\n")
    config = load_config(leaf)
    assert (config.seed, config.train.lr, config.train.steps, config.train.batch_size) == (3, 0.5, 9, 2)
    assert config.sync is None
    assert config.data.short_side == (64,)
    assert "base" not in read_tree(leaf)


def test_several_bases(write: Write) -> None:
    """Later bases win over earlier ones, the file over all; a base may have bases of its own."""
    write(yaml.safe_dump(TINY), "common.yaml")
    write("base: common.yaml\ntrain: {lr: 0.5, steps: 7}\nseed: 3\n", "first.yaml")
    write("train: {lr: 0.25}\nseed: 4\n", "second.yaml")
    leaf = write("base: [first.yaml, second.yaml]\nseed: 5\n")
    config = load_config(leaf)
    assert (config.seed, config.train.lr, config.train.steps, config.train.batch_size) == (5, 0.25, 7, 2)
    names = [path.name for path, _ in read_layers(leaf)]
    assert names == ["common.yaml", "first.yaml", "second.yaml", "config.yaml"]


def test_a_loop_of_bases(write: Write) -> None:
    write("base: b.yaml\n", "a.yaml")
    path = write("base: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match="is its own base"):
        load_config(path)


def test_a_missing_base_is_named(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read"):
        load_config(write("base: gone.yaml\n"))


def test_overrides(write: Write) -> None:
    path = write(yaml.safe_dump(TINY))
    config = load_config(path, ["sync.momentum=0.2", "data.short_side=[32,48]", "subclips=null", "seed=4"])
    assert config.sync is not None
    assert (config.sync.momentum, config.sync.num_selected) == (0.2, 2)
    assert config.data.short_side == (32, 48)
    assert config.subclips is None
    assert config.seed == 4


@pytest.mark.parametrize(
    "override", ["momentum", "=3", "sync.momentum=[1", "sync.momentum=x", "synk.momentum=1", ".=1"]
)
def test_bad_overrides(write: Write, override: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(yaml.safe_dump(TINY)), [override])
    assert "\n" not in str(error.value)


TINY_BASE = {**TINY, "model": {"backbone": {"name": "tiny", "width": 16, "base_stride": 2}}}


@pytest.mark.parametrize(
    ("above", "backbone"),
    [
        ("{name: resnet50}", {"name": "resnet50", "width": 64, "norm": "frozen", "freeze_at": 0}),
        ("{name: resnet18, width: 32}", {"name": "resnet18", "width": 32, "norm": "frozen", "freeze_at": 0}),
        ("{width: 24}", {"name": "tiny", "width": 24, "base_stride": 2}),
        ("{name: tiny}", {"name": "tiny", "width": 16, "base_stride": 2}),
    ],
)
def test_another_kind_of_backbone_takes_nothing_over(write: Write, above: str, backbone: dict[str, Any]) -> None:
    """In a file with a base as on the command line."""
    base = write(yaml.safe_dump(TINY_BASE), "base.yaml")
    changed = load_config(write(f"base: base.yaml\nmodel: {{backbone: {above}}}\n"))
    assert changed.model.backbone.model_dump() == backbone
    words = [f"model.backbone.{key}={value}" for key, value in yaml.safe_load(above).items()]
    assert load_config(base, words) == load_config(base, words[::-1]) == changed


def test_settings_of_a_kind_stay_from_one_of_its_backbones_to_the_next(write: Write) -> None:
    write(yaml.safe_dump(TINY_BASE), "base.yaml")
    write("base: base.yaml\nmodel: {backbone: {name: resnet50, freeze_at: 2}}\n", "middle.yaml")
    config = load_config(write("base: middle.yaml\nmodel: {backbone: {name: resnet101}}\n"))
    assert config.model.backbone.model_dump() == {"name": "resnet101", "width": 64, "norm": "frozen", "freeze_at": 2}


def test_a_setting_of_another_kind_of_backbone_is_named_as_that(write: Write) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(yaml.safe_dump(TINY_BASE)), ["model.backbone.name=resnet18", "model.backbone.base_stride=2"])
    assert "model.backbone.base_stride is not a key of this kind of backbone" in str(error.value)
    assert "did you mean" not in str(error.value)


def test_merge_changes_nothing_it_is_given() -> None:
    first = {"a": {"b": 1, "c": [1, 2]}}
    assert merge(first, {"a": {"b": 2, "c": [3]}}) == {"a": {"b": 2, "c": [3]}}
    assert first == {"a": {"b": 1, "c": [1, 2]}}
    assert set_dotted(first, "a.b", 5)["a"] == {"b": 5, "c": [1, 2]}
    assert first["a"]["b"] == 1
