"""Embeddings of class names: the file, the encoder that comes with it, and the command that writes one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from syncvis.data.appearance import SHAPES, TEXTURES, category_parts
from syncvis.data.class_text import read_class_text, write_class_text
from syncvis.data.text_encoders import encode_with, spelling
from syncvis.errors import ConfigError, DataError, StorageError

ROOT = Path(__file__).parents[3]
NAMES = ("cat", "polar bear", "bear")
Run = Callable[..., tuple[int, str, str]]


def by_length(names: Sequence[str]) -> list[list[float]]:
    """An encoder of a user's."""
    return [[len(name), name.count("a")] for name in names]


def _one_number(names: Sequence[str]) -> int:
    return len(names)


def _words(names: Sequence[str]) -> Sequence[str]:
    return names


def test_a_file_comes_back_row_by_row(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_class_text(tmp_path / "a.safetensors", NAMES, matrix, "mine:encode")
    text = read_class_text(tmp_path / "a.safetensors")
    assert text.names == NAMES
    assert text.rows(["bear", "cat", "bear"]).tolist() == [[4, 5], [0, 1], [4, 5]]


def test_missing_names_are_one_error_with_file_names_and_fix(tmp_path: Path) -> None:
    text = write_class_text(tmp_path / "a.safetensors", NAMES, spelling(NAMES, 8), "spelling")
    with pytest.raises(DataError, match=r"a\.safetensors: .* classes 'dog', 'Cat'\. Fix: .*syncvis data text"):
        text.rows(["cat", "dog", "Cat", "dog"])
    with pytest.raises(DataError, match="'x4' and 3 more"):
        text.rows([f"x{n}" for n in range(8)])


def _without_names(path: Path) -> None:
    save_file({"text": np.ones((2, 3), np.float32)}, path)


def _other_tensor(path: Path) -> None:
    save_file({"weight": np.ones((2, 3), np.float32)}, path, {"syncvis": json.dumps({"classes": ["a", "b"]})})


def _fewer_rows(path: Path) -> None:
    save_file({"text": np.ones((2, 3), np.float32)}, path, {"syncvis": json.dumps({"classes": ["a"]})})


def _a_name_twice(path: Path) -> None:
    save_file({"text": np.ones((2, 3), np.float32)}, path, {"syncvis": json.dumps({"classes": ["a", "a"]})})


def _not_finite(path: Path) -> None:
    save_file({"text": np.full((1, 3), np.nan, np.float32)}, path, {"syncvis": json.dumps({"classes": ["a"]})})


def _bfloat16(path: Path) -> None:
    about = {"syncvis": json.dumps({"classes": ["a"]})}
    save_torch_file({"text": torch.ones(1, 3, dtype=torch.bfloat16)}, path, about)


def _whole_numbers(path: Path) -> None:
    save_file({"text": np.ones((1, 3), np.int64)}, path, {"syncvis": json.dumps({"classes": ["a"]})})


def _no_file(path: Path) -> None:
    """Nothing is written."""


def _cut(path: Path) -> None:
    write_class_text(path, NAMES, spelling(NAMES), "spelling")
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_no_file, "there is no such file"),
        (_cut, "ends early"),
        (lambda path: path.write_text("a text " * 9), "cannot be read as safetensors"),
        (lambda path: path.mkdir(), "is a folder"),
        (_without_names, "holds no embeddings of class names"),
        (_other_tensor, "holds no embeddings of class names"),
        (_fewer_rows, r"shape \(2, 3\) for 1 class names"),
        (_a_name_twice, "names a class twice: 'a'"),
        (_not_finite, "not finite"),
        (_whole_numbers, "not finite"),
        (_bfloat16, r"cannot be read \(.*bfloat16"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, write: Callable[[Path], object], problem: str) -> None:
    path = tmp_path / "a.safetensors"
    write(path)
    with pytest.raises(StorageError, match=rf"a\.safetensors: .*{problem}.*Fix: make it with `syncvis data text"):
        read_class_text(path)


@pytest.mark.parametrize("matrix", [np.ones((2, 4)), np.ones(3), np.ones((3, 0)), np.full((3, 4), np.inf)])
def test_a_wrong_matrix_is_not_written(tmp_path: Path, matrix: np.ndarray) -> None:
    with pytest.raises(DataError, match="mine:encode: has embeddings"):
        write_class_text(tmp_path / "a.safetensors", NAMES, matrix, "mine:encode")
    assert not list(tmp_path.iterdir())


def test_spelling_is_the_same_on_any_machine() -> None:
    """Python's own hashes differ from process to process. The places were computed once, on Linux x86-64."""
    code = "from syncvis.data.text_encoders import spelling; print(spelling(['polar bear'], 64).tobytes().hex())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert bytes.fromhex(done.stdout.strip()) == spelling(["polar bear"], 64).tobytes()
    assert np.flatnonzero(spelling(["ab"])[0]).tolist() == [68, 82, 153, 566, 650, 851]


def test_spelling_knows_shared_pieces_and_nothing_of_meaning() -> None:
    names = ["bear", "polar bear", "Polar_Bear", "grizzly"]
    rows = spelling(names)
    np.testing.assert_allclose(np.square(rows).mean(1), 1, rtol=1e-5)
    alike = rows @ rows.T / rows.shape[1]
    assert alike[1, 2] == pytest.approx(1)
    assert 0.4 < alike[0, 1] < 0.9
    assert abs(alike[0, 3]) < 0.2


def test_spelling_counts_signed_pieces() -> None:
    """Of "ab": two letters " a", "ab", "b ", three " ab", "ab ", four " ab "; far more places than pieces."""
    row = spelling(["ab"], 1 << 16)[0]
    places = np.flatnonzero(row)
    assert len(places) == 6
    assert len(set(np.abs(row[places]))) == 1


def test_the_file_of_the_synthetic_benchmark_is_made_as_documented() -> None:
    """``data synth FOLDER categories=36``, then ``data text FOLDER --width 64``."""
    count = len(SHAPES) * len(TEXTURES)
    names = tuple(" ".join(category_parts(index)) for index in range(count))
    text = read_class_text(ROOT / "experiments" / "base" / "class_text.safetensors")
    assert text.names == names
    np.testing.assert_array_equal(text.matrix, spelling(names, 64))


def test_an_encoder_of_the_users_own() -> None:
    found = encode_with(f"{__name__}:by_length", ["cat", "banana"])
    assert (found.dtype, found.tolist()) == (np.float32, [[3, 1], [6, 3]])


@pytest.mark.parametrize("name", ["no_such_module:f", f"{__name__}:no_such", f"{__name__}", "", ":f"])
def test_an_encoder_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--encoder: .*Fix: give MODULE:FUNCTION"):
        encode_with(name, NAMES)


def test_an_encoder_that_gives_no_numbers() -> None:
    with pytest.raises(DataError, match="_words: gives no array of numbers"):
        encode_with(f"{__name__}:_words", NAMES)


def test_the_command(syncvis: Run, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "text.safetensors"
    code, said, err = syncvis("data", "text", tiny_data, "--out", out)
    names = tuple(category["name"] for category in json.loads((tiny_data / "train.json").read_text())["categories"])
    assert (code, err) == (0, "")
    assert said.split() == f"class text: {out} ({len(names)} classes, width 1024, by spelling)".split()
    assert read_class_text(out).names == names
    np.testing.assert_array_equal(load_file(out)["text"], spelling(names))
    code, _, err = syncvis("data", "text", tiny_data, "--out", out)
    assert code == StorageError.exit_code
    assert "exists already" in err
    encoder = f"{__name__}:by_length"
    code, said, _ = syncvis("data", "text", tiny_data, "--out", out, "--force", "--encoder", encoder)
    assert (code, encoder in said) == (0, True)
    assert load_file(out)["text"].tolist() == by_length(names)


def test_the_command_refuses(syncvis: Run, tiny_data: Path, tmp_path: Path) -> None:
    where = ("data", "text", tiny_data, "--out", tmp_path / "a.safetensors")
    assert syncvis(*where, "--split", "none.json")[0] == DataError.exit_code
    assert syncvis(*where, "--encoder", "m:f", "--width", "64")[0] == ConfigError.exit_code
    code, _, err = syncvis(*where, "--encoder", f"{__name__}:_one_number")
    assert (code, "shape ()" in err) == (DataError.exit_code, True)
    assert not list(tmp_path.iterdir())
