"""A results file as it may come: zipped for the server, or saved by an editor that writes a byte order mark."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from syncvis.errors import DataError
from syncvis.evaluation import packed
from syncvis.evaluation.results import read_results

ROWS: list[dict[str, Any]] = [{"video_id": 7, "score": 0.5, "category_id": 4, "segmentations": [None, None]}]


def _zip(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.json", text)
    return path


def test_a_zip_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    marked = tmp_path / "marked.json"
    marked.write_text("\ufeff" + json.dumps(ROWS), encoding="utf-8")
    for path in (marked, _zip(tmp_path / "results.zip", results=json.dumps(ROWS))):
        (found,) = read_results(path, [4])
        assert (found.video_id, len(found.tracks)) == (7, 1)


def test_damaged_zips_are_refused_by_name(tmp_path: Path) -> None:
    good = _zip(tmp_path / "results.zip", results=json.dumps(ROWS * 50))
    content = good.read_bytes()
    flipped = content[:45] + b"\xff\xff" + content[47:]
    for name, damaged in (("cut", content[:-30]), ("flipped", flipped)):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{name}\.zip.*is a damaged zip .*Fix: "):
            read_results(path, [4])
    with pytest.raises(DataError, match=r"has 2 JSON files, not one: 'a\.json', 'b\.json'"):
        read_results(_zip(tmp_path / "two.zip", a="[]", b="[]"), [4])


def test_a_zip_that_is_a_bomb_or_encrypted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _zip(tmp_path / "results.zip", results=json.dumps(ROWS * 500))
    assert len(read_results(path, [4])[0].tracks) == 500
    monkeypatch.setattr(packed, "_MAX_INFLATED", 1000)
    monkeypatch.setattr(packed, "_MAX_RATIO", 10)
    with pytest.raises(DataError, match=r"bytes in .* compressed ones"):
        read_results(path, [4])
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        read_results(path, [4])


def _read(path: Path) -> list[str]:
    """Read a good file; returns the remarks."""
    remarks: list[str] = []
    (found,) = read_results(path, [4], remarks=remarks)
    assert len(found.tracks) == 1
    return remarks


def _packed(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_what_macos_adds_is_passed_over(tmp_path: Path) -> None:
    extra: dict[str, bytes | str] = {
        "__MACOSX/._results.json": b"\0\5\x16\7",
        ".DS_Store": b"\0",
        "._results.json": b"\0",
    }
    assert _read(_packed(tmp_path / "a.zip", {**extra, "results.json": json.dumps(ROWS)})) == []
    inside = {"out/": "", "out/.DS_Store": "", "__MACOSX/out/._r.json": "", "out/results.json": json.dumps(ROWS)}
    (remark,) = _read(_packed(tmp_path / "b.zip", inside))
    assert remark == "b.zip holds 'out/results.json': evaluation servers take a zip with results.json at its top"


@pytest.mark.parametrize("name", ["output.pkl.json", "results", "RESULTS.JSON"])
def test_another_name_in_a_zip_is_remarked_on(tmp_path: Path, name: str) -> None:
    (remark,) = _read(_packed(tmp_path / "a.zip", {name: json.dumps(ROWS)}))
    assert remark.startswith(f"a.zip holds {name!r}: evaluation servers take")


def test_archives_are_known_by_content(tmp_path: Path) -> None:
    text = json.dumps(ROWS)
    assert _read(_packed(tmp_path / "zip.json", {"results.json": text})) == [
        "zip.json is a zip archive, though not named like one"
    ]
    (tmp_path / "text.zip").write_text(text)
    assert _read(tmp_path / "text.zip") == ["text.zip is no zip archive, though named like one"]
    for name in ("results.json.gz", "results.json"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert _read(tmp_path / name) == [
            f"{name} is a gzip archive: evaluation servers take a zip with results.json at its top"
        ]


def test_gzip_that_is_cut_or_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, content = tmp_path / "results.json.gz", gzip.compress(json.dumps(ROWS * 500).encode())
    path.write_bytes(content[:-9])
    with pytest.raises(DataError, match=r"results\.json\.gz: is a damaged gzip archive"):
        read_results(path, [4])
    path.write_bytes(content)
    monkeypatch.setattr(packed, "_MAX_INFLATED", 1000)
    monkeypatch.setattr(packed, "_MAX_RATIO", 10)
    with pytest.raises(DataError, match=r"has over \d+ bytes in \d+ compressed ones"):
        read_results(path, [4])


def test_a_zip_without_json_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 0 JSON files, not one: 'a\.txt', 'b\.txt'"):
        read_results(_packed(tmp_path / "a.zip", {"a.txt": "", "b.txt": ""}), [4])
    with pytest.raises(DataError, match="has 0 JSON files, not one"):
        read_results(_packed(tmp_path / "b.zip", {"a/": "", ".DS_Store": ""}), [4])
