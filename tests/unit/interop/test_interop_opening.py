"""A file is what it holds, whatever its ending says; what is no file of weights is named, and nothing of it is run."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from syncvis.errors import StorageError
from syncvis.interop.opening import open_weights, recognise
from syncvis.interop.stored import read_stored

STATE = {"a.weight": torch.arange(600.0).view(20, 30), "a.bias": torch.tensor([1.5, -2.0])}


def _torch(zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _pickle(protocol: int = 4) -> bytes:
    return pickle.dumps({name: tensor.numpy() for name, tensor in STATE.items()}, protocol)


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


KINDS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "a torch file": (_torch(), (".pth", ".pt", ".bin", ".ckpt")),
    "a torch file, old": (_torch(zipped=False), (".pth", ".pt", ".bin", ".ckpt")),
    "a pickle": (_pickle(), (".pkl", ".pickle")),
    "a pickle, old": (_pickle(0), (".pkl", ".pickle")),
    "safetensors": (save(STATE), (".safetensors",)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".pth", ".ckpt", ".pkl", ".safetensors", ".bin", ".tar", ""])
def test_the_content_decides(tmp_path: Path, kind: str, ending: str) -> None:
    data, usual = KINDS[kind]
    path = tmp_path / f"model{ending}"
    path.write_bytes(data)
    found = read_stored(path)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in found.tensors.items())
    remark = f"read as {kind.removesuffix(', old')}, which it is, whatever the ending {ending!r} says"
    assert found.notes == (() if ending in usual else (remark,))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
INDEX = {
    "metadata": {},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}

OTHERS: dict[str, tuple[str, bytes, str, str]] = {
    "empty": ("x.pth", b"", "is an empty file", "copy or download"),
    "pointer": ("x.pkl", POINTER, "is a Git LFS pointer, not the file itself", "git lfs pull"),
    "pointer of safetensors": ("x.safetensors", POINTER, "is a Git LFS pointer", "git lfs pull"),
    "page": ("x.pth", b"<!DOCTYPE html>\n<html><title>Quota exceeded", "is an HTML page", "open it in a browser"),
    "page with a comment": ("x.pkl", b"<!-- a -->\n<html lang='en'>", "is an HTML page", "open it in a browser"),
    "server error": ("x.pth", b"<?xml version='1.0'?>\n<Error><Code>AccessDenied", "is an XML file", "text editor"),
    "YAML": ("x.yaml", b"model:\n  name: a\n", "is a YAML file, a config perhaps", "weights first, the config second"),
    "YAML in disguise": (
        "x.pth",
        b"# a recipe\n\n_BASE_: base.yaml\nMODEL:\n  A: 1\n",
        "is a YAML file",
        "the weights first",
    ),
    "JSON": ("x.json", b'{"videos": []}', "is a JSON file, no weights", "the weights first, the config second"),
    "index": (
        "model.safetensors.index.json",
        json.dumps(INDEX).encode(),
        "is the index of weights that lie in 2 files",
        "save it as one file",
    ),
    "text": ("x.pth", b"Not Found", "is text ('Not Found')", "read it"),
    "zip": (
        "x.pth",
        _zip({"d/model.pkl": b"1", "LICENSE": b""}),
        "is a zip archive that holds d/model.pkl",
        "give d/mod",
    ),
    "zip of a repository": (
        "x.zip",
        _zip({"code/a.py": b"", "m.pkl": b"1"}),
        "is a zip archive that holds m.pkl",
        "give m",
    ),
    "zip of text": ("x.pth", _zip({"a.txt": b"1"}), "is a zip archive that holds a.txt", "its publisher offers"),
    "NumPy archive": ("x.npz", _npz(), "is a NumPy archive of arrays", "its publisher offers"),
    "Keras": ("x.keras", _zip({"config.json": b"", "model.weights.h5": b""}), "is a Keras model", "its publisher"),
    "HDF5": (
        "x.h5",
        b"\x89HDF\r\n\x1a\n" + bytes(20),
        "is an HDF5 file, as Keras and others write",
        "its publisher offers",
    ),
    "TorchScript": (
        "x.pt",
        _zip({"m/data.pkl": b"", "m/code/__torch__.py": b"", "m/constants.pkl": b""}),
        "is a TorchScript archive",
        "store the state dict alone",
    ),
    "tar": ("x.pth", _tar("a/model.pth", "b"), "is a tar archive that holds a/model.pth", "give a/model.pth"),
    "torch of old": (
        "x.pth",
        _tar("pickle", "storages", "tensors"),
        "is a torch file of before version 0.2",
        "save it",
    ),
    "gzip": ("x.pkl", gzip.compress(_pickle()), "is a gzip archive", "gunzip"),
    "ONNX": ("x.onnx", b"\x08\x07\x12\x07pytorch\x1a\x032.0" + bytes(20), "is an ONNX model", "its publisher offers"),
    "ONNX by name": ("x.onnx", b"\x08\x07:" + bytes(range(200)), "is an ONNX model", "its publisher offers"),
    "TensorFlow": ("x.ckpt.data-00000-of-00001", bytes(50), "is a part of a TensorFlow checkpoint", "its publisher"),
    "TensorFlow Lite": ("x.bin", bytes(4) + b"TFL3" + bytes(20), "is a TensorFlow Lite model", "its publisher offers"),
    "GGUF": ("x.gguf", b"GGUF" + bytes(20), "is a GGUF model", "its publisher offers"),
    "noise": ("x.pth", bytes(range(256)), "is no file of weights that is known here (256 bytes)", "copy or download"),
    "shard": (
        "model-00001-of-00002.safetensors",
        save(STATE),
        "is part 1 of 2 of a model",
        "save it as one file",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_of_weights_is_named(tmp_path: Path, kind: str) -> None:
    name, content, problem, fix = OTHERS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StorageError) as error:
        open_weights(path)
    text = str(error.value)
    assert text.startswith(f"{path}: {problem}")
    assert fix in text.split(". Fix: ")[1]
    assert "\n" not in text


def test_a_whole_model_may_be_called_the_first_part_of_one(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00001.safetensors"
    path.write_bytes(save(STATE))
    assert open_weights(path)[1] == []


FOLDERS: dict[str, tuple[tuple[str, ...], str]] = {
    "weights": (
        ("config.json", "model.safetensors"),
        r"is a folder that holds model\.safetensors\. Fix: give .*/model.safe",
    ),
    "TensorFlow": (("saved_model.pb", "variables"), "is a folder with a TensorFlow model"),
    "nothing": ((), "is a folder without weights"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder(tmp_path: Path, kind: str) -> None:
    names, problem = FOLDERS[kind]
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(StorageError, match=problem):
        open_weights(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x\.onnx: cannot be read \(No such file or directory\)"):
        recognise(tmp_path / "x.onnx")


CUT: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "torch": ("x.pth", _torch, r"is a torch file that ends early or is damaged: [\d,]+ bytes"),
    "torch, old": ("x.pth", lambda: _torch(zipped=False), r"ends early: [\d,]+ bytes are not all of it"),
    "pickle": ("x.pkl", _pickle, r"ends early: [\d,]+ bytes are not all of it"),
    "safetensors": ("x.safetensors", lambda: save(STATE), r"ends early: [\d,]+ of [\d,]+ bytes"),
    "zip": ("x.zip", lambda: _zip({"a.pkl": _pickle()}), "is a zip archive that ends early or is damaged"),
    "tar": ("x.tar", lambda: _tar("a.pkl"), "is a tar archive that"),
}


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_file_that_ends_early(tmp_path: Path, kind: str, share: float) -> None:
    name, make, problem = CUT[kind]
    data = make()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(StorageError, match=problem):
        open_weights(tmp_path / name)


def test_how_much_of_safetensors_is_there(tmp_path: Path) -> None:
    data = save(STATE)
    (tmp_path / "x.safetensors").write_bytes(data[:-100])
    with pytest.raises(
        StorageError, match=f"ends early: {len(data) - 100:,} of {len(data):,} bytes. Fix: copy or down"
    ):
        open_weights(tmp_path / "x.safetensors")
