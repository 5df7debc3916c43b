"""Reading published files: every kind of them, and none of what a hostile or damaged one would do."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from syncvis.errors import StorageError
from syncvis.interop.stored import as_stored, read_stored

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -2.0])}
ARRAYS = {name: tensor.numpy() for name, tensor in STATE.items()}


def _pickled(content: object, protocol: int = 2) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps(content, protocol))


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "state dict": ("x.pth", lambda path: torch.save(STATE, path)),
    "legacy torch": ("x.pth", lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False)),
    "training checkpoint": ("x.pth", lambda path: torch.save({"model": STATE, "iteration": 3, "optimizer": {}}, path)),
    "lightning": ("x.pt", lambda path: torch.save({"state_dict": STATE, "epoch": 3}, path)),
    "model_state_dict": ("x.pt", lambda path: torch.save({"model_state_dict": STATE}, path)),
    "parallel": ("x.pth", lambda path: torch.save({"model": {f"module.{k}": v for k, v in STATE.items()}}, path)),
    "parameters": ("x.pth", lambda path: torch.save({k: torch.nn.Parameter(v) for k, v in STATE.items()}, path)),
    "safetensors": ("x.safetensors", lambda path: save_file(STATE, path)),
    "model zoo": (
        "x.pkl",
        _pickled({"model": ARRAYS, "__author__": "torchvision", "matching_heuristics": True}),
    ),
    "protocol 0": ("x.pkl", _pickled(ARRAYS, 0)),
    "protocol 5": ("x.pkl", _pickled(ARRAYS, 5)),
    "Caffe2": ("x.pkl", _pickled({"blobs": ARRAYS, "cfg": "text"})),
    "Fortran order": ("x.pkl", _pickled({k: np.asfortranarray(v) for k, v in ARRAYS.items()}, 4)),
    "big-endian": ("x.pkl", _pickled({k: v.astype(">f4") for k, v in ARRAYS.items()}, 4)),
    "torch tensors": ("x.pkl", _pickled({"model": STATE, "__author__": "third_party", "matching_heuristics": True})),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name)
    read = read_stored(tmp_path / name).tensors
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in STATE.items())
    assert not any(tensor.requires_grad for tensor in read.values())


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """Its bytes come as text, its strings are not unicode, and numpy's modules had other names."""
    data = np.array([1.7, -3.1e30], "<f4")
    parts = data.tobytes()
    pickled = (
        b"\x80\x02}q\x00U\x07conv1_wq\x01cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(parts)]) + parts + b"tbs."
    )
    assert max(parts) > 127
    (tmp_path / "x.pkl").write_bytes(pickled)
    assert read_stored(tmp_path / "x.pkl").tensors["conv1_w"].tolist() == data.tolist()


def test_numbers_of_other_types(tmp_path: Path) -> None:
    arrays = {"long": np.arange(3), "half": np.ones(2, np.float16), "flag": np.array([True]), "count": np.int64(7)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(arrays, 2))
    read = read_stored(tmp_path / "x.pkl").tensors
    assert [read[k].dtype for k in arrays] == [torch.int64, torch.float16, torch.bool, torch.int64]
    assert read["long"].tolist() == [0, 1, 2]
    assert read["count"].item() == 7


class Hostile:
    """Leaves a file behind when a careless reader unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


class Other:
    """Asks for a global with arguments."""

    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.args  # type: ignore[return-value]


HOSTILE: dict[str, tuple[str, object, str]] = {
    "system call": ("x.pkl", {"model": {"a": Hostile()}}, "posix.mkdir"),
    "system call for torch": ("x.pth", {"model": {"a": Hostile()}}, "posix.mkdir"),
    "builtin": ("x.pkl", {"a": Other(eval, "1")}, "__builtin__.eval"),
    "model object": ("x.pkl", {"a": torch.nn.Linear(1, 1)}, "torch.nn.modules.linear.Linear"),
    # Numpy itself would take the bytes for pointers.
    "array of objects": ("x.pkl", {"a": Other(np.ndarray, (1,), np.dtype("O"), b"12345678")}, "numpy.dtype('O8')"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_names_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    name, content, refused = HOSTILE[kind]
    (torch.save if name.endswith("pth") else _dump)(content, Path(name))
    with pytest.raises(StorageError) as error:
        read_stored(name)
    assert str(error.value).startswith(f"{name}: names {refused}, which is neither a tensor nor a plain container")
    assert "\n" not in str(error.value)
    assert os.listdir() == [name]


def test_the_hostile_pickle_of_these_tests_does_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Hostile()))
    assert Path("harm").exists()


def test_a_hostile_file_inside_a_pickled_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Hostile(), "inner.pth")
    inner = Path("inner.pth").read_bytes()
    _dump({"a": Other(torch.storage._load_from_bytes, inner)}, Path("x.pkl"))
    with pytest.raises(StorageError, match=r"x\.pkl: names posix\.mkdir"):
        read_stored("x.pkl")
    assert not Path("harm").exists()


def _dump(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, 2))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("keep", [0, 1, 40, -30])
def test_a_file_cut_off(tmp_path: Path, kind: str, keep: int) -> None:
    name, write = WRITERS[kind]
    path = tmp_path / name
    write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StorageError) as error:
        read_stored(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.pth", "x.pkl", "x.safetensors"])
@pytest.mark.parametrize("content", [None, b"some text\nand more", b"\x80\x02]q\x00."], ids=["missing", "text", "list"])
def test_what_is_no_file_of_weights(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match=name):
        read_stored(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "no weights by name"),
        ([1], "no weights by name"),
        ({"model": {}}, "no tensor under model"),
        ({"a": "text"}, "no tensor under a"),
        ({"model": {"a": 1}}, "no tensor under model"),
        ({"optimizer": {"state": {0: {"exp_avg": STATE["a.bias"]}}}, "epoch": 3}, "the state of an optimizer and no"),
        ({"state": {0: {"exp_avg": STATE["a.bias"]}}, "param_groups": [1]}, "the state of an optimizer and no weights"),
    ],
    ids=str,
)
def test_content_without_tensors(content: object, problem: str) -> None:
    with pytest.raises(StorageError, match=rf"x\.pth: holds {problem}"):
        as_stored(content, "x.pth")


def test_a_dictionary_that_holds_itself() -> None:
    content: dict[str, Any] = {"a.weight": STATE["a.weight"]}
    content["model"] = content
    assert as_stored(content).tensors.keys() == {"a.weight"}
