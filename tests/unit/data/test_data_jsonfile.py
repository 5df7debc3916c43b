"""A JSON object read part by part is what json.loads reads, and whatever is no JSON is refused by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from syncvis.data.json_text import loads
from syncvis.data.jsonfile import JsonFile, get
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
    assert loads(file.source.read_bytes(), file.source) == TREE
    assert [file.is_absent(name) for name in ("nothing", "missing", "none", "info")] == [True, True, False, False]


def test_two_members_with_one_name(tmp_path: Path) -> None:
    file = _file(tmp_path, '{"a": [{"x": 1}], "a": [{"x": 2}]}')
    with pytest.raises(DataError, match="The name 'a' occurs twice") as caught:
        file.finish()
    with pytest.raises(DataError) as of_whole:
        loads(file.source.read_bytes(), file.source)
    assert str(caught.value) == str(of_whole.value)


def test_damage_of_the_json_is_named_before_what_is_in_it(tmp_path: Path) -> None:
    file = _file(tmp_path, '{"a": [{}], "a": []}')
    with pytest.raises(DataError, match="The name 'a' occurs twice"), file.read():
        get(next(file.objects("a"))[1], "id", int, file.source, "a[0]")


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
    problem = r"a\.json: (?:.*not valid JSON|is an empty file, not JSON|a\[0\]: is )"
    with pytest.raises(DataError, match=problem) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "Fix: " in str(caught.value)
    with pytest.raises(DataError, match=r"a\.json: .*(?:not valid JSON|is an empty file)"):
        loads(text.encode(), tmp_path / "a.json")


@pytest.mark.parametrize("text", ["{}", " { } ", "[1]", "7", '"a"', "null", '{"a": {"b": 1, "b": 2}}'])
def test_whole_texts_are_read_as_by_the_standard_library(text: str) -> None:
    assert loads(text.encode(), Path("a.json")) == json.loads(text)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is an empty file, not JSON. Fix: copy or download the file again"),
        (b"\x1f\x8b\x08\x00abc", "is a gzip archive, not JSON. Fix: unpack it"),
        (b"PK\x03\x04abc", "is a zip archive, not JSON. Fix: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is an HTML page, not JSON. Fix: open it in a browser"),
        (b"\x80\x04\x95", "is a Python pickle, not JSON"),
        (b'{"a": "\xc1"}', "not valid JSON text (the byte at position 7, 0xc1, is not UTF-8). Fix: write the file as"),
        (b'\xef\xbb\xbf{"a": "\xc1"}', "(the byte at position 10, 0xc1, is not UTF-8)"),
        (b"[" * 100_000, "not valid JSON text (nested too deeply)"),
    ],
)
def test_what_is_no_json_is_named_alike_by_all_readers(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        _file(tmp_path, content)
    assert problem in str(caught.value)
    with pytest.raises(DataError) as of_whole:
        loads(content, tmp_path / "a.json")
    assert str(of_whole.value) == str(caught.value)


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
    entry = {"whole": 1, "text": "a", "flag": True, "huge": 2**70, "broken": float("nan"), "large": float("inf")}
    entry |= {"half": 0.5, "one": 1.0, "seven": "7", "nothing": None, "segmentation": [], "videoID": 3}
    assert get(entry, "whole", int, tmp_path, "videos[0]") == 1
    for name, problem in [
        ("text", "is text, not a whole number"),
        ("flag", "is true or false, not a whole number"),
        ("huge", "the number is too large"),
        ("broken", r"is not a finite number\."),
        ("large", r"is not a finite number\."),
        ("half", "is a number with a fraction, not a whole number"),
        ("one", r"1\.0 is not written as a whole number"),
        ("seven", "is text, not a whole number: '7'"),
        ("nothing", "is null, not a whole number"),
    ]:
        with pytest.raises(DataError, match=rf"videos\[0\]\.{name}: {problem}.*Fix: "):
            get(entry, name, int, tmp_path, "videos[0]")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("one", "1.0 is not written as a whole number. Fix: write 1, or mend the file with `syncvis data check --fix`"),
        ("seven", "is text, not a whole number: '7'. Fix: write 7, or mend the file with `syncvis data check --fix`"),
        ("missing", "the key is missing. Fix: add 'missing'"),
        ("segmentations", "the key is missing (there is 'segmentation'). Fix: name it 'segmentations'"),
        ("video_id", "the key is missing (there is 'videoID'). Fix: name it 'video_id'"),
        ("id", "the key is missing. Fix: add 'id'"),
    ],
)
def test_what_was_meant_is_told(tmp_path: Path, name: str, problem: str) -> None:
    entry = {"one": 1.0, "seven": "7", "segmentation": [], "videoID": 3}
    with pytest.raises(DataError) as caught:
        get(entry, name, int, tmp_path, "videos[0]")
    assert str(caught.value) == f"{tmp_path}: videos[0].{name}: {problem}"


def test_a_list_under_a_nearly_equal_name_is_not_an_absent_one(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"annotation": [{"id": 1}], "videos": []}')
    with pytest.raises(DataError, match=r"annotations: the key is missing \(there is 'annotation'\). Fix: name it"):
        JsonFile(path).is_absent("annotations")
    for text in ('{"annotation": [], "videos": []}', '{"annotation": 3}', '{"notes": [1]}'):
        path.write_text(text)
        assert JsonFile(path).is_absent("annotations")
