"""Before the first step: the file of class-name embeddings is there, is one, and knows every class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config

from syncvis.config import TMTVISSettings
from syncvis.data.class_text import write_class_text
from syncvis.data.text_encoders import spelling
from syncvis.preflight import Look, look_at_runs
from syncvis.preflight.class_text import look_at_class_text

LookAt = Callable[..., Look]
NAMES = ("striped ellipse", "checked rectangle", "dotted triangle", "plain star", "circled ring", "shaded cross")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    write_class_text(tmp_path / "text.safetensors", NAMES, spelling(NAMES, 8), "spelling")
    return tmp_path / "text.safetensors"


def _method(text: Path | str, width: int = 8) -> dict[str, Any]:
    return {"name": "tmt_vis", "text": str(text), "width": width}


def test_a_whole_file_and_no_file(text: Path, look_at: LookAt) -> None:
    assert look_at(method=_method(text)).problems == ()
    assert look_at(method=_method("learned")).problems == ()


def test_a_missing_file_is_absent(tmp_path: Path, look_at: LookAt) -> None:
    (problem,) = look_at(method=_method(tmp_path / "none")).problems
    assert (problem.what, problem.is_absent) == ("class-name embeddings", True)
    said = f"{tmp_path / 'none'}: method.text: there is no such file. Fix: syncvis data text "
    assert str(problem.error).startswith(said)


def test_other_classes_another_width_and_a_cut_file_are_wrong(
    text: Path, tmp_path: Path, errors: Callable[..., list[str]]
) -> None:
    other = tmp_path / "other.safetensors"
    write_class_text(other, NAMES[1:], spelling(NAMES[1:], 8), "spelling")
    (said,) = errors(method=_method(other))
    assert said.startswith(f"{other}: method.text: has no embedding of the classes 'striped ellipse'. Fix: make it")
    (said,) = errors(method=_method(text, 9))
    assert "has 8 numbers for each class, and the model reads 9. Fix: set method.width=8" in said
    text.write_bytes(text.read_bytes()[:-1])
    assert "method.text: ends early" in errors(method=_method(text))[0]


def test_each_file_of_a_sweep_is_looked_at(text: Path, root: Path, tmp_path: Path) -> None:
    """Runs that differ in nothing else; one file is not there."""
    found = look_at_runs(tiny_config({"method": _method(path)}, root) for path in (text, tmp_path / "none"))
    assert [problem.error.file for problem in found.problems] == [tmp_path / "none"]


def test_without_names_the_file_alone_is_looked_at(text: Path) -> None:
    data = tiny_config().data
    assert look_at_class_text(TMTVISSettings(text=str(text), width=8), data, []) == []
    (problem,) = look_at_class_text(TMTVISSettings(text=str(text), width=9), data, [])
    assert not problem.is_absent
