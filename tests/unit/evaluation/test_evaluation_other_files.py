"""Files given as results or ground truth that are something else: each is named, with what to do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from syncvis.cli import app
from syncvis.errors import DataError
from syncvis.evaluation.annotations import read_truth
from syncvis.evaluation.files import evaluate_files
from syncvis.evaluation.results import read_results

MASK = {"size": [4, 6], "counts": [5, 2, 2, 2, 13]}
ROW: dict[str, Any] = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [MASK, MASK, None]}
TRUTH: dict[str, Any] = {
    "videos": [{"id": 1, "width": 6, "height": 4, "length": 3, "file_names": ["v1/0.jpg", "v1/1.jpg", "v1/2.jpg"]}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": [MASK, MASK, None]}],
}
OF_FRAME: dict[str, Any] = {"category_id": 1, "score": 0.9, "segmentation": MASK}
PER_TRACK = "Fix: write one row per track, with a mask or null for every frame of its video"


def _lines(*rows: Any) -> str:
    return "\n".join(map(json.dumps, rows))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            [OF_FRAME | {"image_id": 3, "track_id": 5}],
            f"row 0: is results per image or frame, not per track. {PER_TRACK}",
        ),
        ([OF_FRAME | {"image_id": 3}], f"row 0: is results per image or frame, not per track. {PER_TRACK}"),
        (
            [OF_FRAME | {"image_id": 3, "bbox": [1, 1, 2, 2]}, 7],
            f"row 0: is results per image or frame, not per track. {PER_TRACK}",
        ),
        (
            [OF_FRAME | {"video_id": 1, "frame_id": 3, "instance_id": 1}],
            "row 0: is results per image or frame, not per track",
        ),
        (
            [OF_FRAME | {"video_id": 1, "image_id": 3, "track_id": 1}],
            "row 0: is results per image or frame, not per track",
        ),
        (TRUTH, "is annotations (a ground truth), not results. Fix: give the ground truth first, the results second"),
        ({"results": [ROW]}, "is an object with the rows under 'results', not their list. Fix: write what is under"),
        ({"annotations": [ROW]}, "is an object with the rows under 'annotations', not their list"),
        ({"1": []}, "is not a list of rows. Fix: give a results.json with one row a track"),
        (
            _lines(ROW, ROW),
            "holds an object per line (JSON lines), not a list of rows. Fix: write the rows as one list",
        ),
        (
            "1,1,912,484,97,109,0,7,1\n2,1,912,484,97,109,0,7,1\n",
            f"is MOT text (a line of numbers per object and frame; boxes, no masks). {PER_TRACK}",
        ),
        ("1, -1, 794.27, 247.59, 71.245, 174.88, 4.5, -1, -1, -1", "is MOT text"),
        ("0 1 2 4 6 5220;\n0 2 2 4 6 5220;\n", f"is MOTS text (a line per object and frame). {PER_TRACK}"),
        ("video_id,score,category_id\n1,0.5,1\n", "is a table (CSV)"),
        (pickle.dumps([ROW]), "is a Python pickle, not JSON. Fix: export what is in it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<html>", "is an HTML page"),
        ([[ROW]], "row 0: is a list, not an object"),
        ([{"sequences": 1}], "row 0: video_id: is missing"),
    ],
)
def test_what_is_no_results_file_is_named(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "res.json"
    path.write_bytes(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_results(path, [1])
    assert f"res.json: {problem}" in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_rows_per_image_of_other_categories_are_named_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "res.json"
    path.write_text(json.dumps([OF_FRAME | {"image_id": 3, "category_id": 99}]))
    with pytest.raises(DataError, match="row 0: is results per image or frame, not per track"):
        read_results(path, [1], left_out=[])


def test_swapped_files_are_named_as_swapped(tmp_path: Path) -> None:
    for name, content in (("gt.json", TRUTH), ("res.json", [ROW])):
        (tmp_path / name).write_text(json.dumps(content))
    found = CliRunner().invoke(app, ["eval-results", str(tmp_path / "gt.json"), str(tmp_path / "res.json")])
    assert found.exit_code == 0
    with pytest.raises(DataError) as caught:
        read_truth(tmp_path / "res.json")
    assert "res.json: is results (predictions with scores), not annotations. Fix: swap the two: `syncvis" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"sequences": [{"annotated_image_paths": ["0.jpg"]}]}, "is BURST"),
        ({"videos": [{"id": 1}], "images": [], "categories": [], "annotations": []}, "is per-image tracks"),
        ([OF_FRAME | {"image_id": 3}], "is results per image"),
        (7, "holds a whole number, not an object with videos and annotations"),
        (b"\x1f\x8b\x08\0", "is a gzip archive, not JSON. Fix: unpack it"),
    ],
)
def test_what_is_no_ground_truth_is_named(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "gt.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(DataError, match=f"gt.json: {problem}"):
        read_truth(path)


def test_the_recipe_of_the_docs_puts_rows_per_frame_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    recipe = text.rpartition("```python\n")[2].partition("```")[0]
    rows = [
        OF_FRAME | {"video_id": 1, "track_id": 7, "frame_id": t, "score": score} for t, score in ((0, 0.8), (1, 0.6))
    ]
    for name, content in (("valid.json", TRUTH), ("per_frame.json", rows)):
        (tmp_path / name).write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", recipe], check=True)
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert row == ROW | {"score": pytest.approx(0.7)}
    assert evaluate_files(tmp_path / "valid.json", tmp_path / "results.json")[0].official["AP"] == pytest.approx(1)
