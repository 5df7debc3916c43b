"""Notes that guess what went wrong, and what is dropped only when asked for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from tiny import SQUARE, tiny_tree, with_mask, write_tiny
from typer.testing import CliRunner

from syncvis.cli import app
from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Finding
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import ConfigError, DataError
from syncvis.ops import masks as rle

Tree = dict[str, Any]
Box = list[float]
OTHER = {"size": [4, 6], "counts": [4, 2, 2, 2, 14]}


def _check(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


def _of_kind(source: Path, code: str) -> list[Finding]:
    return [finding for finding in check_file(source, Settings()).findings if finding.code == code]


@pytest.mark.parametrize(
    ("masks", "first"),
    [
        ([None, None, *[SQUARE] * 6], 2),
        ([OTHER, *[SQUARE] * 7], 1),
        ([*[OTHER] * 5, *[SQUARE] * 3], 5),
        ([*[OTHER] * 6, *[SQUARE] * 2], None),
        ([SQUARE] * 8, None),
        ([SQUARE, None, *[SQUARE] * 6], None),
        ([None, None, *[SQUARE] * 5, None], None),
        ([None] * 8, None),
    ],
    ids=["appears", "stops", "three", "two", "still", "still, hidden once", "leaves", "never"],
)
def test_masks_that_repeat_to_the_end(tmp_path: Path, masks: list[Any], first: int | None) -> None:
    tree = tiny_tree()
    tree["videos"][0].update(length=8, file_names=[f"v1/{t}.jpg" for t in range(8)])
    tree["annotations"][0].update(segmentations=masks, bboxes=None, areas=None)
    found = _of_kind(write_tiny(tmp_path, tree, 8), "frozen-end")
    if first is None:
        assert found == []
    else:
        assert [finding.key for finding in found] == [f"annotations[0].segmentations[{first}]"]
        text = f"its last {8 - first} masks, from frame {first} on, are identical: was 'outside' lost in the export?"
        assert found[0].text == text


def _boxes(tmp_path: Path, convert: Callable[[Box], Box], odd: int = 0) -> str | None:
    """The note on a file of 20 x 30 pixels with ten boxes in a convention, ``odd`` of them wrong in any."""
    masks, boxes = [], []
    for t in range(10):
        mask = np.zeros((40, 60), bool)
        left, top, width, height = 5 + 4 * t, 3 + t, 12, 16 + t
        mask[top : top + height, left : left + width] = True
        masks.append(rle.encode(mask))
        boxes.append([50, 30, 3, 3] if t < odd else convert([left, top, width, height]))
    tree = tiny_tree()
    tree["videos"][0].update(length=10, height=40, width=60, file_names=[f"v1/{t}.jpg" for t in range(10)])
    tree["annotations"][0].update(segmentations=masks, bboxes=boxes, areas=None)
    found = _of_kind(write_tiny(tmp_path, tree), "box-convention")
    assert len(found) <= 1
    return found[0].text if found else None


@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]], "centre boxes (cx, cy, w, h)"),
        (lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]], "x1, y1, x2, y2"),
        (lambda b: [b[1], b[0], b[1] + b[3], b[0] + b[2]], "y1, x1, y2, x2"),
        (lambda b: [b[0] / 60, b[1] / 40, b[2] / 60, b[3] / 40], "left, top, width, height as parts of the frame"),
        (
            lambda b: [(b[0] + b[2] / 2) / 60, (b[1] + b[3] / 2) / 40, b[2] / 60, b[3] / 40],
            "centre boxes (cx, cy, w, h) as parts of the frame",
        ),
    ],
)
def test_boxes_of_another_convention(tmp_path: Path, convert: Callable[[Box], Box], name: str) -> None:
    text = _boxes(tmp_path, convert)
    assert text is not None
    assert text.startswith(f"all 10 boxes that differ from their masks look like {name}")
    assert (_boxes(tmp_path, convert, 1) or "").startswith("9 of the 10 boxes")
    assert _boxes(tmp_path, convert, 2) is None, "too many that it does not explain"


def test_boxes_without_a_convention(tmp_path: Path) -> None:
    assert _boxes(tmp_path, lambda box: box) is None
    assert _boxes(tmp_path, lambda box: [0, 0, 60, 40]) is None


def test_names_that_are_one_file_on_windows_and_macos(tmp_path: Path) -> None:
    tree = tiny_tree()
    names = [f"V1/{t}.jpg" for t in range(3)]
    tree["videos"].append(tree["videos"][0] | {"id": 2, "file_names": names})
    source = write_tiny(tmp_path, tree)
    for name in names:
        (tmp_path / "JPEGImages" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "JPEGImages" / name).write_bytes((tmp_path / "JPEGImages" / name.lower()).read_bytes())
    (finding,) = _of_kind(source, "file-name-case")
    assert (finding.key, finding.severity) == ("videos[1].file_names[0]", "note")
    assert finding.text == '"V1/0.jpg" and "v1/0.jpg" of videos[0] are one file there'
    assert _check(source).exit_code == 0


def test_a_path_of_windows_is_called_that(tmp_path: Path) -> None:
    tree = tiny_tree()
    tree["videos"][0]["file_names"][0] = r"C:\data\0.jpg"
    (finding,) = check_file(write_tiny(tmp_path, tree), Settings()).findings
    assert (finding.code, "it is written on Windows" in finding.text) == ("file-name-outside", True)
    with pytest.raises(DataError, match="it is written on Windows"):
        VideoDataset.load(tmp_path, "gt.json")


def _unknown_video(tree: Tree) -> None:
    tree["annotations"].append(copy.deepcopy(tree["annotations"][0]) | {"id": 2, "video_id": 9})


def _no_frames(tree: Tree) -> None:
    tree["videos"].append({"id": 2, "width": 6, "height": 4, "file_names": []})
    for n in (2, 3):
        tree["annotations"].append({"id": n, "video_id": 2, "category_id": 1, "segmentations": [SQUARE]})


def _copy(tree: Tree) -> None:
    tree["annotations"].append(copy.deepcopy(tree["annotations"][0]) | {"id": 2})


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (_unknown_video, {"annotations": 1}),
        (_no_frames, {"annotations": 2, "videos": 1}),
        (_copy, {"annotations": 1}),
        (lambda tree: tree["annotations"].append("x"), {"annotations": 1}),
        (lambda tree: tree["annotations"].append(copy.deepcopy(tree["annotations"][0])), {"annotations": 1}),
    ],
    ids=["unknown video", "video without frames", "copy", "no object", "copy with its id"],
)
def test_what_can_only_be_dropped_is_dropped_only_when_asked_for(
    tmp_path: Path, change: Callable[[Tree], object], lost: dict[str, int]
) -> None:
    tree = tiny_tree()
    change(tree)
    source = write_tiny(tmp_path, tree)
    words = ", ".join(f"{count} {name if count > 1 else name[:-1]}" for name, count in lost.items())
    assert _check(source).stdout.splitlines()[-1].endswith(f"; --drop would drop {words}")
    kept = json.loads(_check(source, "--fix", tmp_path / "kept.json", "--json").stdout)
    written = json.loads((tmp_path / "kept.json").read_text())
    assert {name: len(written[name]) for name in tree} == {name: len(tree[name]) for name in tree}
    assert (kept["dropped"], kept["exit_code"] > 0) == ({}, True)
    done = _check(source, "--fix", tmp_path / "dropped.json", "--drop")
    assert f"dropped {words}" in done.stdout
    assert done.exit_code == 0
    assert json.loads((tmp_path / "dropped.json").read_text()) == tiny_tree()
    again = json.loads(_check(source, "--fix", tmp_path / "again.json", "--drop", "--json").stdout)
    assert again["dropped"] == lost
    assert any(finding["drops"] for finding in again["before"]["findings"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree["annotations"][0].update(video_id=9), "would end without annotations: all 1"),
        (lambda tree: tree["annotations"][0].update(segmentations=None), "would end without annotations"),
        (lambda tree: tree["videos"][0].update(file_names=[]), "would end without videos and annotations"),
    ],
)
def test_a_file_that_would_end_empty_is_not_written(
    tmp_path: Path, change: Callable[[Tree], object], words: str
) -> None:
    tree = tiny_tree()
    change(tree)
    source = write_tiny(tmp_path, tree)
    error = _check(source, "--fix", tmp_path / "fixed.json", "--drop").exception
    assert isinstance(error, DataError)
    assert words in error.problem
    assert not (tmp_path / "fixed.json").exists()
    assert _check(source, "--fix", tmp_path / "fixed.json").exit_code == 3
    assert len(json.loads((tmp_path / "fixed.json").read_text())["annotations"]) == 1


def test_only_a_file_without_annotations_may_be_a_test_set(tmp_path: Path) -> None:
    source = write_tiny(tmp_path, tiny_tree() | {"annotations": []})
    (finding,) = _of_kind(source, "no-annotations")
    assert (finding.severity, "a test set?" in finding.text) == ("note", True)
    assert _check(source, "--fix", tmp_path / "fixed.json", "--drop").exit_code == 0


def test_drop_goes_with_fix(tmp_path: Path) -> None:
    assert isinstance(_check(write_tiny(tmp_path, tiny_tree()), "--drop").exception, ConfigError)


def test_a_mend_comes_before_a_drop(tmp_path: Path) -> None:
    """The masks in text are read first; only then is it known that the second track is a copy, and which is empty."""
    tree = with_mask(SQUARE | {"counts": "b'5220;'"})
    tree["annotations"].append(copy.deepcopy(tree["annotations"][0]) | {"id": 2, "video_id": "1"})
    done = _check(write_tiny(tmp_path, tree), "--fix", tmp_path / "fixed.json", "--drop")
    assert "3 mended, dropped 1 annotation" in done.stdout
    assert done.exit_code == 0
    assert len(json.loads((tmp_path / "fixed.json").read_text())["annotations"]) == 1
