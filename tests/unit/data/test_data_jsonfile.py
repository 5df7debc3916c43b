"""A JSON object read part by part is what json.loads reads, and whatever is no JSON is refused by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from syncvis.data.jsonfile import JsonFile, get, loads
from syncvis.errors import DataError

TREE: dict[str, Any] = {
    "info": {"year": 2021, "text": 'a "quoted" \\ [bracket] { \u00e9 \u4e2d'},
    "videos": [{"id": 1, "x": [1.5, -2e3, None, True, [], {}]}, {}, {"name": "]}\\"}],
    "nothing": None,
    "none": [],
    "annotations": [{"id": n, "s": [{"size": [1, 2], "counts": "[]{}\\\"'"}, None]} for n in range(5)],
    "last": 3,
}


def _file(folder: Path, content: str | bytes) -> JsonFile:
    path = folder / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return JsonFile(path)


def _read(folder: Path, content: str | bytes) -> None:
    file = _file(folder, content)
    list(file.objects("a"))
    file.finish()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_parts_are_those_of_the_whole(tmp_path: Path, layout: dict[str, Any], encoding: str) -> None:
    file = _file(tmp_path, json.dumps(TREE, **layout).encode(encoding))
    for name in ("annotations", "videos", "none", "videos"):
        assert list(file.objects(name)) == [(f"{name}[{i}]", value) for i, value in enumerate(TREE[name])]
    file.finish()
    assert loads(file.source.read_bytes()) == TREE
    assert [file.is_absent(name) for name in ("nothing", "missing", "none", "info")] == [True, True, False, False]


def test_two_members_with_one_name(tmp_path: Path) -> None:
    file = _file(tmp_path, '{"a": [{"x": 1}], "a": [{"x": 2}]}')
    with pytest.raises(DataError, match="The name 'a' occurs twice"):
        file.finish()
    with pytest.raises(ValueError, match="The name 'a' occurs twice"):
        loads(file.source.read_bytes())


def test_an_empty_object(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json: videos: the key is missing\. Fix: add 'videos'"):
        list(_file(tmp_path, " { } ").objects("videos"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"a"',
        '{"a": ',
        '{"a": [',
        '{"a": [{}',
        '{"a": [{},]}',
        '{"a": [{} {}]}',
        '{"a": [{}]',
        '{"a": [{}]}}',
        '{"a": [{}],}',
        '{"a": [{}] "b": 1}',
        "{a: [{}]}",
        '{"a" [{}]}',
        '{"a": [{"x": tru}]}',
        '{"a": ["]}',
        '{"a": [{"x": 01}]}',
        '{"a": [{}]} x',
        '{"a": [{}}',
        '{"a": [{"x\ny": 1}]}',
        '{"a": ["\\',
        '{"a": [{"b": "\\ud8"}]}',
        "{} {}",
        '{"a": nul}',
        '{"a": [,]}',
        '{"a": [{"x": ' + "9" * 5000 + "}]}",
        '{"a": [' + "[" * 100_000,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "[" * 100_000,
    ],
)
def test_broken_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"a\.json: (?:.*not valid JSON|a\[0\]: is )") as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "Fix: " in str(caught.value)
    with pytest.raises((ValueError, RecursionError)):
        loads(text.encode())


@pytest.mark.parametrize("text", ["{}", " { } ", "[1]", "7", '"a"', "null", '{"a": {"b": 1, "b": 2}}'])
def test_whole_texts_are_read_as_by_the_standard_library(text: str) -> None:
    assert loads(text.encode()) == json.loads(text)


def test_no_text_at_all(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x80\x81", b'{"a": "\xff"}', bytes(range(256))):
        with pytest.raises(DataError, match="not valid JSON"):
            _read(tmp_path, content)
    with pytest.raises(DataError, match=r"cannot be read \(it is not a file\)"):
        JsonFile(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        JsonFile(tmp_path / "a\0b")


@pytest.mark.parametrize("text", ['{"a": ["' + '\\"' * 500_000, '{"a": [' + '"", ' * 300_000, '{"a": ' + " " * 10**6])
def test_hostile_text_takes_no_longer_than_its_length(tmp_path: Path, text: str) -> None:
    start = time.process_time()
    with pytest.raises(DataError):
        _read(tmp_path, text)
    assert time.process_time() - start < 2


def test_values_of_another_kind_are_named(tmp_path: Path) -> None:
    entry = {"whole": 1, "text": "a", "flag": True, "huge": 2**70, "broken": float("nan")}
    assert get(entry, "whole", int, tmp_path, "videos[0]") == 1
    for name, problem in [
        ("text", "is text, not a whole number"),
        ("flag", "is true or false, not a whole number"),
        ("huge", "the number is too large"),
        ("broken", "is a number with a fraction, not a whole number"),
        ("missing", "the key is missing"),
    ]:
        with pytest.raises(DataError, match=rf"videos\[0\]\.{name}: {problem}.*Fix: "):
            get(entry, name, int, tmp_path, "videos[0]")
