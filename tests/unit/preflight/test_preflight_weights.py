"""Initial weights: there, whole, and of the right kind, by their first bytes."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from syncvis.errors import StorageError
from syncvis.preflight.findings import Findings
from syncvis.preflight.weights import look_at_weights


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(())}, tmp_path / "whole", metadata={"cell_hash": "x"})
    return (tmp_path / "whole").read_bytes()


def _problem(path: Path) -> str:
    (problem,) = look_at_weights(str(path))
    assert isinstance(problem.error, StorageError)
    assert problem.what == "initial weights"
    assert str(problem.error).startswith(f"{path}: train.init: ")
    return problem.error.problem


def test_whole_weights_and_none(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "w").write_bytes(whole)
    assert look_at_weights(str(tmp_path / "w")) == look_at_weights(None) == []


def test_a_missing_file_is_absent(tmp_path: Path) -> None:
    (problem,) = look_at_weights(str(tmp_path / "none"))
    assert problem.is_absent
    assert "syncvis weights import FILE CONFIG --out" in str(problem.error)


def test_a_cut_file_is_never_taken_for_a_whole_one(tmp_path: Path, whole: bytes) -> None:
    for size in range(len(whole)):
        (tmp_path / "w").write_bytes(whole[:size])
        assert "empty" in _problem(tmp_path / "w") or "ends early" in _problem(tmp_path / "w"), size
    assert _problem(tmp_path / "w") == f"ends early: {len(whole) - 1} of {len(whole)} bytes"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (gzip.compress(b"x"), "is a gzip archive"),
        (pickle.dumps({"a": 1}), "is a Python pickle, not safetensors"),
        ((2).to_bytes(8, "little") + b"[]", "cannot be read as safetensors"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "cannot be read as safetensors"),
    ],
    ids=["LFS", "HTML", "gzip", "pickle", "a list", "no offsets"],
)
def test_what_is_no_file_of_weights_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert _problem(tmp_path / "w.safetensors").startswith(said)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert _problem(tmp_path) == "is a folder"


def test_several_problems_are_one_error_of_the_kind_of_the_first(tmp_path: Path) -> None:
    found = Findings(tuple(look_at_weights(str(tmp_path / "a")) + look_at_weights(str(tmp_path))))
    with pytest.raises(StorageError) as error:
        found.refuse()
    text = str(error.value)
    assert text.startswith(f"2 problems: (1) {tmp_path / 'a'}: train.init: there is no such file. Fix: ")
    assert f"; (2) {tmp_path}: train.init: is a folder. Fix: " in text
    assert [problem.error.file for problem in found.wrong.problems] == [tmp_path]
    Findings().refuse()
