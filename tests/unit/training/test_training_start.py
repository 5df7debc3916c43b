"""What initial weights leave fresh, and whose classes a class head is of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from helpers import tiny_config, tiny_model
from safetensors.torch import save_file

from syncvis.errors import StorageError
from syncvis.methods import build
from syncvis.training.checkpoint import initialise, read_weights, save_weights
from syncvis.training.start import class_names, compare_classes, start_from

CLASSES = ["dog", "cat", "cow"]
EXCHANGE = "exchange (decoder.sync)"


@pytest.fixture
def init(tmp_path: Path) -> Path:
    """A model of three known classes without the exchange."""
    path = tmp_path / "init.safetensors"
    save_weights(path, tiny_model({"sync": None}), {"classes": CLASSES})
    return path


def test_the_same_model_of_the_same_classes_is_nothing_to_talk_about(init: Path) -> None:
    start = start_from(tiny_model({"sync": None}), init, CLASSES)
    assert (start.fresh, start.words) == ((), "")


def test_it_says_what_initialise_does(init: Path) -> None:
    model = tiny_model()
    start = start_from(model, init, CLASSES)
    assert list(start.fresh) == initialise(model, init) != []
    assert start.words == f"fresh: {EXCHANGE}"


def test_a_model_without_storage_will_do(init: Path) -> None:
    with torch.device("meta"):
        model = build(tiny_config(), 3)
    assert start_from(model, init, None).words == f"fresh: {EXCHANGE}"


def test_another_number_of_classes(init: Path) -> None:
    start = start_from(build(tiny_config(), 7), init, [*CLASSES, "a", "b", "c", "d"])
    assert start.words == f"fresh: class head (3 classes in the file, 7 here), {EXCHANGE}"


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (None, ""),
        (["dog", "cat", "pig"], "class head taken over from other classes: 'cow' in the file, 'pig' here"),
        (
            ["cat", "dog", "cow"],
            "class head taken over from the same classes in another order: 'dog', 'cat' in the file, 'cat', 'dog' here",
        ),
    ],
)
def test_a_head_of_other_classes(init: Path, classes: Sequence[str] | None, words: str) -> None:
    assert start_from(tiny_model({"sync": None}), init, classes).words == words


def test_a_head_of_unknown_classes(tmp_path: Path) -> None:
    save_weights(tmp_path / "x", tiny_model(), {})
    words = "class head of 3 classes taken over; the classes of the file are unknown"
    assert start_from(tiny_model(), tmp_path / "x", CLASSES).words == words


def test_lists_of_classes() -> None:
    assert compare_classes(CLASSES, tuple(CLASSES)) == ""
    many = [f"c{i}" for i in range(40)]
    assert compare_classes(many, CLASSES[:1] + many[1:]) == "other classes: 'c0' in the file, 'dog' here"
    swapped = [many[1], many[0], "dog", *many[3:]]
    found = compare_classes(many, swapped)
    assert found == "other classes: 'c2' in the file, 'dog' here; the others stand in another order"
    assert "'c0', 'c1', 'c2' and 37 more in the file" in compare_classes(many, [f"d{i}" for i in range(40)])


def test_parts_that_the_file_lacks(init: Path, tmp_path: Path) -> None:
    backbone = {name: x for name, x in read_weights(init).items() if name.startswith("backbone.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    start = start_from(tiny_model(), tmp_path / "backbone.safetensors", CLASSES)
    assert start.words == "fresh: pixel decoder (not in the file), decoder (not in the file)"


def test_parts_of_the_file_that_the_model_lacks(tmp_path: Path) -> None:
    path = tmp_path / "init.safetensors"
    save_weights(path, tiny_model(), {"classes": CLASSES})
    exchange = sum(name.startswith("decoder.sync.") for name in read_weights(path))
    assert start_from(tiny_model({"sync": None}), path, CLASSES).words == f"not used: {exchange} tensors of {EXCHANGE}"


def test_weights_of_another_size(init: Path) -> None:
    with pytest.raises(StorageError, match=r"init\.safetensors: train\.init: has no tensor of the right shape for "):
        start_from(tiny_model({"model.hidden_dim": 64}), init, CLASSES)


def test_names_of_the_classes_of_a_config(tmp_path: Path) -> None:
    config = tiny_config(root=tmp_path)
    assert class_names(config) is None
    categories = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]
    (tmp_path / "train.json").write_text(json.dumps({"categories": categories}))
    assert class_names(config) == ("dog", "cat")
    (tmp_path / "train.json").write_text("{")
    assert class_names(config) is None
