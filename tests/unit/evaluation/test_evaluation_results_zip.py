"""A results file as it may come: zipped for the server, or saved by an editor that writes a byte order mark."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from syncvis.errors import DataError
from syncvis.evaluation import json_rows
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
    for name, damaged in (("cut", content[:-30]), ("flipped", flipped), ("text", b"x")):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{name}\.zip.*is a damaged zip .*Fix: "):
            read_results(path, [4])
    with pytest.raises(DataError, match="has 2 JSON files, not one"):
        read_results(_zip(tmp_path / "two.zip", a="[]", b="[]"), [4])


def test_a_zip_that_is_a_bomb_or_encrypted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _zip(tmp_path / "results.zip", results=json.dumps(ROWS * 500))
    assert len(read_results(path, [4])[0].tracks) == 500
    monkeypatch.setattr(json_rows, "_MAX_INFLATED", 1000)
    monkeypatch.setattr(json_rows, "_MAX_RATIO", 10)
    with pytest.raises(DataError, match=r"bytes in .* compressed ones"):
        read_results(path, [4])
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        read_results(path, [4])
