from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import NUM_CLASSES, STRUCTURES, tiny_config, tiny_model
from safetensors.torch import save_file
from torch import Tensor, nn

from syncvis.errors import StorageError
from syncvis.files import write_atomically, write_text
from syncvis.methods import build
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.training.checkpoint import (
    initialise,
    load_weights,
    read_weights,
    save_weights,
)
from syncvis.training.start import start_from
from syncvis.weights import read_header


def test_weights_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model, other = tiny_model(seed=1), tiny_model(seed=2)
    save_weights(path, model, {"cell_hash": "x"})
    load_weights(other, path)
    assert all(torch.equal(x, other.state_dict()[name]) for name, x in model.state_dict().items())
    assert not any(name.startswith("pixel_mean") for name in read_weights(path))


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        (0, "is an empty file"),
        (5, "ends early: 5 bytes"),
        (100, "ends early: 100 bytes, and its header alone has [0-9,]+"),
        (-10, "ends early: [0-9]+,[0-9]+ of [0-9]+,[0-9]+ bytes"),
    ],
)
def test_weights_cut_short(tmp_path: Path, length: int, problem: str) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, tiny_model(), {})
    path.write_bytes(path.read_bytes()[:length])
    for read in (read_weights, read_header):
        with pytest.raises(StorageError, match=rf"model\.safetensors: {problem}\. Fix: copy or download"):
            read(path)
    with pytest.raises(StorageError, match="cannot be read"):
        read_weights(tmp_path / "missing.safetensors")


def test_weights_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, tiny_model(), {})
    with pytest.raises(StorageError, match="does not fit the model at decoder"):
        load_weights(tiny_model({"sync": None}), path)
    with pytest.raises(StorageError, match="does not fit"):
        load_weights(tiny_model({"model.decoder.video_queries": 9}), path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a shared decoder without exchange, as after pre-training on images."""
    path = tmp_path_factory.mktemp("weights") / "stills.safetensors"
    save_weights(path, tiny_model({"sync": None}), {})
    return path


def _source(name: str, changes: dict[str, Any]) -> str:
    """Where a tensor must come from."""
    if "structure" in str(changes) and changes["method.structure"] == "cascade":
        for new, old in (
            ("decoder.frames.", "decoder."),
            ("decoder.query_set.", "decoder.query_sets.video."),
            ("decoder.layers.", "decoder.stacks.0.layers."),
            ("decoder.heads.", "decoder.stacks.0.heads."),
        ):
            if name.startswith(new):
                return old + name.removeprefix(new)
    return name.replace("decoder.stacks.1.", "decoder.stacks.0.")


@pytest.mark.parametrize("changes", [*STRUCTURES.values(), {"sync": None, "model.decoder.shared": False}], ids=str)
def test_every_structure_starts_from_the_same_file(stored: Path, changes: dict[str, Any]) -> None:
    model = tiny_model(changes, seed=5)
    fresh = initialise(model, stored)
    assert all(name.startswith("decoder.sync.") for name in fresh)
    assert bool(fresh) == (not changes)
    tensors = read_weights(stored)
    for name, tensor in model.state_dict().items():
        if name not in fresh:
            assert torch.equal(tensor, tensors[_source(name, changes)]), name


def test_frame_queries_start_as_the_video_queries_of_mask2former_vis(tmp_path: Path) -> None:
    sizes = {"model.decoder.frame_queries": 4, "model.decoder.video_queries": 4}
    save_weights(tmp_path / "base.safetensors", tiny_model({**sizes, **STRUCTURES["video_only"]}), {})
    model = tiny_model(sizes, seed=1)
    fresh = initialise(model, tmp_path / "base.safetensors")
    assert all(name.startswith("decoder.sync.") for name in fresh)
    state = model.state_dict()
    for kind in ("content", "position"):
        names = (f"decoder.query_sets.{level}.{kind}.weight" for level in ("frame", "video"))
        assert torch.equal(*(state[name] for name in names))


@pytest.mark.parametrize("structure", ["synchronous", "video_only", "cascade"])
def test_video_queries_start_as_the_queries_of_an_image_model(tmp_path: Path, structure: str) -> None:
    sizes = {"model.decoder.frame_queries": 4, "model.decoder.video_queries": 4}
    base = tiny_model({**sizes, **STRUCTURES["frame_only"]})
    save_weights(tmp_path / "base.safetensors", base, {})
    model = tiny_model({**sizes, **STRUCTURES[structure]}, seed=1)
    fresh = initialise(model, tmp_path / "base.safetensors")
    assert all(".sync." in name for name in fresh)
    state, brought = model.state_dict(), base.state_dict()
    queries = {name: x for name, x in state.items() if ".query_set" in name}
    assert queries
    for name, tensor in queries.items():
        kind = "content" if ".content." in name else "position"
        assert torch.equal(tensor, brought[f"decoder.query_sets.frame.{kind}.weight"])


def test_what_a_file_has_a_part_of_starts_from_nothing_else(tmp_path: Path) -> None:
    """A hole in the video queries is no reason to take those of the frames."""
    sizes = {"model.decoder.frame_queries": 4, "model.decoder.video_queries": 4, "sync": None}
    state = tiny_model(sizes).state_dict()
    del state["decoder.query_sets.video.content.weight"]
    save_file(state, tmp_path / "hole.safetensors")
    with pytest.raises(StorageError, match=r"right shape for decoder\.query_sets\.video\.content\.weight\. Fix"):
        initialise(tiny_model(sizes), tmp_path / "hole.safetensors")


def _with_temporal(**parts: nn.Module) -> Mask2FormerVIS:
    model = tiny_model({"sync": None})
    model.add_module("temporal", nn.ModuleDict(parts))
    return model


def test_an_exchange_may_start_fresh_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "stage.safetensors"
    save_weights(path, _with_temporal(encoder=nn.Linear(2, 2)), {})
    sync = nn.ModuleDict({"attention": nn.Linear(2, 2)})
    model = _with_temporal(encoder=nn.Linear(2, 2), sync=sync)
    assert initialise(model, path) == ["temporal.sync.attention.weight", "temporal.sync.attention.bias"]
    assert start_from(model, path, None).words.startswith("fresh: exchange (temporal.sync); ")
    with pytest.raises(StorageError, match=r"right shape for temporal\.other\.weight"):
        initialise(_with_temporal(encoder=nn.Linear(2, 2), other=nn.Linear(2, 2)), path)


def test_new_layers_in_a_part_of_the_file_if_the_method_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mask2FormerVIS, "fresh", ("temporal.memory",))
    path = tmp_path / "stage.safetensors"
    save_weights(path, _with_temporal(encoder=nn.Linear(2, 2)), {})
    model = _with_temporal(encoder=nn.Linear(2, 2), memory=nn.Linear(2, 3))
    assert initialise(model, path) == ["temporal.memory.weight", "temporal.memory.bias"]
    assert start_from(model, path, None).words.startswith("fresh: temporal.memory; ")
    with pytest.raises(StorageError, match=r"right shape for temporal\.memory_of_others\.weight"):
        initialise(_with_temporal(encoder=nn.Linear(2, 2), memory_of_others=nn.Linear(2, 3)), path)


def test_new_layers_that_the_file_has_must_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mask2FormerVIS, "fresh", ("temporal.memory",))
    state = _with_temporal(encoder=nn.Linear(2, 2), memory=nn.Linear(2, 3)).state_dict()
    del state["temporal.memory.bias"]
    save_file(state, tmp_path / "hole.safetensors")
    with pytest.raises(StorageError, match=r"right shape for temporal\.memory\.bias"):
        initialise(_with_temporal(encoder=nn.Linear(2, 2), memory=nn.Linear(2, 3)), tmp_path / "hole.safetensors")


def test_a_decoder_of_another_kind_is_refused(stored: Path) -> None:
    model = tiny_model({"sync": None})
    model.decoder = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)]), "boxes": nn.Linear(2, 4)})  # type: ignore[assignment]
    with pytest.raises(StorageError, match=r"no tensor of the right shape for decoder\.layers\.0\.weight.* and 1 more"):
        initialise(model, stored)


def test_a_class_head_of_other_classes_starts_fresh(stored: Path) -> None:
    torch.manual_seed(5)
    model = build(tiny_config({"sync": None}), NUM_CLASSES + 4)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    fresh = initialise(model, stored)
    assert fresh == ["decoder.stacks.0.heads.class_embed.weight", "decoder.stacks.0.heads.class_embed.bias"]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in fresh)
    tensors = read_weights(stored)
    assert all(torch.equal(x, tensors[name]) for name, x in model.state_dict().items() if name not in fresh)


def _without(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: x for name, x in tensors.items() if part not in name}


@pytest.mark.parametrize("part", ["backbone.stem.0.weight", "mask_embed.0", "query_sets.video.content"])
def test_a_part_that_must_not_start_fresh(stored: Path, tmp_path: Path, part: str) -> None:
    path = tmp_path / "cut.safetensors"
    save_file(_without(read_weights(stored), part), path)
    model = tiny_model(seed=5)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with pytest.raises(StorageError, match=part) as error:
        initialise(model, path)
    assert str(error.value).startswith(f"{path}: train.init: ")
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize("part", ["backbone", "pixel_decoder", "decoder"])
def test_a_file_of_one_whole_part_leaves_the_others_fresh(stored: Path, tmp_path: Path, part: str) -> None:
    path = tmp_path / "part.safetensors"
    tensors = {name: x for name, x in read_weights(stored).items() if name.startswith(f"{part}.")}
    save_file(tensors, path)
    model = tiny_model({"sync": None}, seed=5)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    fresh = initialise(model, path)
    assert fresh == [name for name in before if not name.startswith(f"{part}.")]
    assert all(torch.equal(x, tensors.get(name, before[name])) for name, x in model.state_dict().items())


@pytest.mark.parametrize("part", ["backbone", "decoder"])
def test_a_part_with_a_hole_is_refused(stored: Path, tmp_path: Path, part: str) -> None:
    path = tmp_path / "hole.safetensors"
    names = [name for name in read_weights(stored) if name.startswith(f"{part}.")]
    save_file(_without({name: read_weights(stored)[name] for name in names}, names[3]), path)
    with pytest.raises(StorageError, match=rf"no tensor of the right shape for {names[3]}\. Fix"):
        initialise(tiny_model({"sync": None}), path)


def test_a_file_without_any_part_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"backbone.res2.0.conv1.weight": torch.zeros(2)}, path)
    with pytest.raises(
        StorageError, match=r"no tensor with a name of the model; its first names are backbone\.res2.* Fix: .*import"
    ):
        initialise(tiny_model(), path)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "torch": (
        lambda path: torch.save({"a": torch.zeros(2)}, path),
        r"is a torch file, not safetensors\. Fix: .*import",
    ),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({})), r"is a Python pickle, not safetensors\. Fix: .*import"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a Git LFS pointer, .*git lfs pull",
    ),
    "page": (lambda path: path.write_text("<html>Quota exceeded</html>"), "is an HTML page"),
    "error": (lambda path: path.write_text("<?xml version='1.0'?><Error/>"), "is an XML file.*text editor"),
    "folder": (lambda path: path.mkdir(), "is a folder.*model.safetensors of a run"),
    "text": (lambda path: path.write_text("something else"), "cannot be read as safetensors"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_safetensors_is_named(tmp_path: Path, kind: str) -> None:
    write, problem = FOREIGN[kind]
    path = tmp_path / "init.safetensors"
    write(path)
    with pytest.raises(StorageError, match=rf"init\.safetensors: {problem}"):
        initialise(tiny_model(), path)


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(tmp_path / name, tiny_model(), {"cell_hash": "x", "classes": ["dog", "cat"]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    header = read_header(tmp_path / "a")
    assert header.about == {"cell_hash": "x", "classes": ["dog", "cat"]}
    assert header.classes == ("dog", "cat")
    assert header.shapes.keys() == read_weights(tmp_path / "a").keys()


def test_a_file_of_another_size_names_the_first_few(stored: Path) -> None:
    with pytest.raises(StorageError, match=r"and \d+ more"):
        initialise(tiny_model({"model.hidden_dim": 64}), stored)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(error: Exception) -> Any:
        def write(temporary: Path) -> None:
            temporary.write_text("half")
            raise error

        return write

    for error, wanted in ((OSError(28, "No space left on device"), StorageError), (KeyError("x"), KeyError)):
        with pytest.raises(wanted):
            write_atomically(path, fail(error))
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    for text in ("one", "two"):
        write_text(path, text)
        assert path.read_text() == text


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "text")
