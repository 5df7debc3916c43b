"""The hash is the identity of a run: it says all that a result depends on, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from helpers import TINY, tiny_config
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from syncvis.config import RunConfig, load_config, resolve, set_dotted
from syncvis.config.section import Named


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, FieldInfo]]:
    """(dotted key, value, field) of every value in the tree."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value, field


def _another(value: Any, field: FieldInfo) -> Any:
    annotation = field.annotation
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str | int)]
    for part in field.metadata:
        if isinstance(part, AfterValidator) and isinstance(part.func, Named):
            choices = list(part.func.table)
    if choices:
        return next((choice for choice in choices if choice != value), None)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return [*value, {"root": "x"} if "Config" in str(annotation) else 1]
    if value is None:
        return {} if "Config" in str(annotation) else _items(str(annotation))
    if isinstance(value, float):
        return value / 2 if value else 1.0
    return value * 2 if value else 1


def _items(annotation: str) -> Any:
    return ["x"] if "tuple[str" in annotation else [1] if "tuple" in annotation else 1 if "int" in annotation else "x"


CONFIG = tiny_config()
# A value with one choice only cannot change.
LEAVES = [leaf for leaf in _leaves(CONFIG) if _another(*leaf[1:]) is not None]


NEEDED: dict[str, dict[str, Any]] = {
    "method.structure": {"sync": None},
    "subclips.step": {"subclips.windows": "strided", "subclips.step": 2},
}
"""What else must be set before a value can be changed."""


@pytest.mark.parametrize(("key", "value", "field"), LEAVES, ids=[key for key, _, _ in LEAVES])
def test_every_value_changes_the_hash(key: str, value: Any, field: FieldInfo) -> None:
    other = _another(value, field)
    config = tiny_config(NEEDED.get(key))
    changed = resolve(set_dotted(config.model_dump(mode="json"), key, other), "changed")
    assert changed.cell_hash != config.cell_hash
    assert (changed.variant_hash == config.variant_hash) == (key == "seed")


@pytest.mark.parametrize("section", ["sync", "subclips"])
def test_a_section_set_to_null_changes_the_hash(section: str) -> None:
    assert tiny_config({section: None}).variant_hash != CONFIG.variant_hash


def test_the_hash_ignores_how_a_config_is_written(tmp_path: Path) -> None:
    def backwards(tree: Any) -> Any:
        return {key: backwards(tree[key]) for key in reversed(tree)} if isinstance(tree, dict) else tree

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(backwards(TINY), sort_keys=False))
    assert load_config(path).cell_hash == CONFIG.cell_hash
    assert tiny_config({"sync.momentum": 0}).cell_hash == tiny_config({"sync.momentum": 0.0}).cell_hash
    assert tiny_config({"eval.topk": 10}).cell_hash == CONFIG.cell_hash  # the default, written out


def test_a_stored_config_has_the_hash_of_its_run(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG.model_dump(mode="json"), sort_keys=False))
    assert load_config(path) == CONFIG
    assert load_config(path).cell_hash == CONFIG.cell_hash


def test_the_canonical_form_does_not_depend_on_the_order_of_the_fields() -> None:
    assert CONFIG.canonical() == json.dumps(json.loads(CONFIG.canonical()), sort_keys=True, separators=(",", ":"))


def test_hash_form() -> None:
    assert len(CONFIG.cell_hash) == 16
    assert set(CONFIG.cell_hash) <= set("0123456789abcdef")
    assert isinstance(CONFIG, RunConfig)
    assert tiny_config({"seed": 0}).cell_hash == CONFIG.variant_hash
