"""What one right answer mends is mended: no label is lost to the way in which it is written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import COMPRESSED, POLYGON, SQUARE, tiny_tree, with_mask, write_tiny

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.mending import fix_file
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

Tree = dict[str, Any]
LYING = rle.encode(np.ascontiguousarray(rle.decode(SQUARE, 4, 6, "").T))
"""The square on its side, as of a video of 6 x 4."""


def _fixed(root: Path, tree: Any) -> Tree:
    """The mended file, after a look at what the check and the reader say."""
    source = write_tiny(root, tree)
    out = root / "fixed.json"
    fixed = fix_file(source, out, Settings())
    assert [finding for finding in fixed.remains.findings if finding.severity == "error"] == []
    assert fixed.dropped == {}
    VideoDataset.load(root, "fixed.json")
    written: Tree = json.loads(out.read_text())
    return written


MASKS: dict[str, tuple[Any, Any, str]] = {
    "bytes": (COMPRESSED | {"counts": "b'5220;'"}, COMPRESSED, "Python bytes written as text"),
    "bytes, other quotes": (COMPRESSED | {"counts": 'b"5220;"'}, COMPRESSED, "Python bytes written as text"),
    "quotes": (COMPRESSED | {"counts": "'5220;'"}, COMPRESSED, "quotes around them"),
    "line break": (COMPRESSED | {"counts": "5220;\n"}, COMPRESSED, "white space"),
    "HTML": ({"size": [4, 6], "counts": "&lt;&lt;"}, {"size": [4, 6], "counts": "<<"}, "escaped as in HTML"),
    "numbers as texts": (SQUARE | {"counts": ["5", "2", "2", "2", "13"]}, SQUARE, "numbers written as text"),
    "nested": (SQUARE | {"counts": [[5, 2, 2, 2, 13]]}, SQUARE, "a list inside a list"),
    "nested texts": (SQUARE | {"counts": [["5", "2", "2", "2", "13"]]}, SQUARE, "a list inside a list"),
    "text of numbers": (SQUARE | {"counts": "[5, 2, 2, 2, 13]"}, SQUARE, "a list of numbers written as text"),
    "numbers with points": (SQUARE | {"counts": [5.0, 2.0, 2.0, 2.0, 13.0]}, SQUARE, "decimal points"),
    "bytes as numbers": (SQUARE | {"counts": list(b"5220;")}, COMPRESSED, "the bytes of a text"),
    "size of texts": (COMPRESSED | {"size": ["4", "6"]}, COMPRESSED, "the size is written as text"),
    "size as text": (COMPRESSED | {"size": "4x6"}, COMPRESSED, "the size is written as text"),
    "size swapped": (SQUARE | {"size": [6, 4]}, SQUARE, "6 x 4, its video 4 x 6: height and width are swapped"),
    "mask on its side": (LYING, rle.encode(rle.decode(SQUARE, 4, 6, "")), "height and width are swapped"),
    "RLE in a list": ([SQUARE], SQUARE, "an RLE inside a list"),
    "JSON as text": (json.dumps(SQUARE), SQUARE, "JSON written as text"),
    "flat polygon": (POLYGON[0], POLYGON, "a flat list of numbers"),
    "pairs": ([[[1, 1], [3, 1], [3, 3], [1, 3]]], POLYGON, "a list of points"),
    "pairs, not in a list": ([[1, 1], [3, 1], [3, 3], [1, 3]], POLYGON, "a list of points"),
    "named points": (
        [[{"x": 1, "y": 1}, {"x": 3, "y": 1}, {"x": 3, "y": 3}, {"x": 1, "y": 3}]],
        POLYGON,
        "a list of points",
    ),
    "polygon nested": ([POLYGON], POLYGON, "a list inside a list"),
    "polygon of texts": ([["1", "1", "3", "1", "3", "3", "1", "3.0"]], POLYGON, "numbers written as text"),
}


@pytest.mark.parametrize(
    "empty",
    [{}, "", " ", "nan", 0, False, float("nan"), {"size": [4, 6], "counts": ""}, {"size": None, "counts": None}],
)
def test_something_empty_where_null_should_be(tmp_path: Path, empty: Any) -> None:
    """Where no box says that there was an object."""
    written = _fixed(tmp_path, with_mask(empty, bboxes=[None, [1, 1, 2, 2], None], areas=[None, 4, None]))
    assert written["annotations"][0]["segmentations"] == [None, SQUARE, None]
    shown = write_tiny(tmp_path, with_mask(empty))
    with pytest.raises(DataError, match=r"annotations\[0\]\.segmentations\[0\]"):
        VideoDataset.load(tmp_path, shown.name).videos[0].tracks[0].mask(0)
    assert not any(finding.mend for finding in check_file(shown, Settings()).findings if finding.frame == 0)


@pytest.mark.parametrize(("key", "name"), [("category_id", "cat"), ("video_id", "v1"), ("video_id", "first")])
def test_a_reference_by_name(tmp_path: Path, key: str, name: str) -> None:
    tree = tiny_tree()
    tree["videos"][0]["name"] = "first"
    tree["annotations"][0][key] = name
    assert _fixed(tmp_path, tree)["annotations"] == tiny_tree()["annotations"]


def test_a_name_of_two_says_nothing(tmp_path: Path) -> None:
    tree = tiny_tree()
    tree["categories"].append({"id": 2, "name": "cat"})
    tree["annotations"][0]["category_id"] = "cat"
    findings = check_file(write_tiny(tmp_path, tree), Settings()).findings
    assert [finding.mend for finding in findings if finding.code == "unknown-category"] == [None]


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_in_a_wrong_spelling(tmp_path: Path, kind: str) -> None:
    """Named alike by check and reader; the mended file has what was meant and nothing else."""
    wrong, right, words = MASKS[kind]
    box = None if kind == "HTML" else [1, 1, 2, 2]
    measures = {"bboxes": [box, [1, 1, 2, 2], None], "areas": None} if box else {"bboxes": None, "areas": None}
    source = write_tiny(tmp_path, with_mask(wrong, **measures))
    (finding,) = check_file(source, Settings()).findings
    assert (finding.code, finding.key) == ("mask-spelling", "annotations[0].segmentations[0]")
    assert words in finding.text
    with pytest.raises(DataError) as caught:
        VideoDataset.load(tmp_path, "gt.json").videos[0].tracks[0].mask(0)
    assert caught.value.problem == finding.text
    assert "syncvis data check FILE --fix" in str(caught.value)
    assert _fixed(tmp_path, with_mask(wrong, **measures)) == with_mask(right, **measures)


def test_doubled_backslashes(tmp_path: Path) -> None:
    mask = np.zeros((200, 10), bool)
    mask[60:90, 3:7] = True
    right = rle.encode(mask)
    while "\\" not in right["counts"]:
        mask[:, 0] = np.random.default_rng(len(right["counts"])).random(200) < 0.1
        mask[mask.sum() % 60, 1] = True
        right = rle.encode(mask)
    tree = tiny_tree()
    tree["videos"][0].update(height=200, width=10)
    wrong = right | {"counts": right["counts"].replace("\\", "\\\\")}
    tree["annotations"][0].update(segmentations=[wrong, None, None], bboxes=None, areas=None)
    source = write_tiny(tmp_path, tree)
    codes = {finding.code for finding in check_file(source, Settings()).findings}
    assert codes == {"mask-spelling", "video-image-size"}
    fix_file(source, tmp_path / "fixed.json", Settings())
    assert json.loads((tmp_path / "fixed.json").read_text())["annotations"][0]["segmentations"][0] == right


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (COMPRESSED | {"counts": "b'522'"}, "Python bytes written as text"),
        (COMPRESSED | {"counts": "5220;\\\\"}, "the backslashes of the counts are doubled"),
        (SQUARE | {"counts": ["5", "2"]}, "numbers written as text"),
        (SQUARE | {"counts": [5.5, 2, 2, 2, 12.5]}, "not text and not a list of integers"),
        ({"counts": SQUARE["counts"]}, "the mask has no size"),
        ([1, 1, 2, 2], "a flat list of 4 numbers (a box?)"),
        ([[1, 1, float("nan"), 1, 3, 3]], "polygon 0 has a number that is not finite"),
        ([[1, 1, 5, 5]], "polygon 0 has 4 numbers, not three or more pairs"),
        ([[1, 1, 5, 5, 1, 3, 2]], "polygon 0 has 7 numbers"),
        ([[1, 1, 16, 1, 3, 3]], "a point is 10 pixels outside the frame of 4 x 6"),
        ("5220;", "is text, not null, an RLE or polygons"),
    ],
)
def test_what_has_no_right_answer_is_named_alike_and_kept(tmp_path: Path, mask: Any, words: str) -> None:
    source = write_tiny(tmp_path, with_mask(mask))
    (finding,) = check_file(source, Settings()).findings
    assert words in finding.text
    assert finding.mend is None
    with pytest.raises(DataError) as caught:
        VideoDataset.load(tmp_path, "gt.json").videos[0].tracks[0].mask(0)
    assert caught.value.problem == finding.text
    assert "--fix" not in str(caught.value)
    fixed = fix_file(source, tmp_path / "fixed.json", Settings(), drop=True)
    assert [one.code for one in fixed.remains.findings] == [finding.code]
    assert repr(json.loads((tmp_path / "fixed.json").read_text())) == repr(with_mask(mask))


@pytest.mark.parametrize("boxes", [None, [[0, 0, 6, 4], None, None]], ids=["no box", "a box of neither"])
def test_a_swap_that_nothing_decides_is_left_to_a_human(tmp_path: Path, boxes: Any) -> None:
    tree = tiny_tree()
    tree["annotations"][0].update(segmentations=[SQUARE | {"size": [6, 4]}, None, None], bboxes=boxes, areas=None)
    source = write_tiny(tmp_path, tree)
    (finding,) = check_file(source, Settings()).findings
    assert (finding.code, finding.mend) == ("mask-size", None)
    assert finding.text == "the mask is 6 x 4, its video 4 x 6: height and width are swapped"
    with pytest.raises(DataError, match="height and width are swapped"):
        VideoDataset.load(tmp_path, "gt.json")


def test_a_swapped_mask_that_is_the_same_either_way_needs_no_box(tmp_path: Path) -> None:
    tree = with_mask({"size": [6, 4], "counts": [0, 24]}, bboxes=None, areas=None)
    assert _fixed(tmp_path, tree)["annotations"][0]["segmentations"][0] == {"size": [4, 6], "counts": [0, 24]}


def _numbers_as_text(tree: Tree) -> None:
    tree["videos"][0].update(id="1", height="4", width=6.0, length="3")
    tree["categories"][0]["id"] = " 1"
    tree["annotations"][0].update(id=1.0, video_id="1", category_id="1.0", iscrowd="0")


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["annotations"][0].update(video_id="1"),
        lambda tree: tree["annotations"][0].update(id=1.0),
        lambda tree: tree["annotations"][0].update(category_id=1.0),
        _numbers_as_text,
    ],
    ids=["video_id", "id", "category_id", "all"],
)
def test_numbers_in_a_wrong_spelling(tmp_path: Path, change: Callable[[Tree], object]) -> None:
    tree = tiny_tree()
    change(tree)
    codes = {finding.code for finding in check_file(write_tiny(tmp_path, tree), Settings()).findings}
    assert codes <= {"number-spelling", "iscrowd-type"}, "and nothing that follows from it"
    assert _fixed(tmp_path, tree) == tiny_tree()


def _two_videos() -> Tree:
    """Two videos, each with a track."""
    tree = tiny_tree()
    for name in ("videos", "annotations"):
        tree[name].append(copy.deepcopy(tree[name][0]) | {"id": 2})
    tree["annotations"][1]["video_id"] = 2
    return tree


def test_two_videos_with_ids_of_text(tmp_path: Path) -> None:
    tree = _two_videos()
    for name in ("videos", "annotations"):
        for entry in tree[name]:
            entry["id"] = str(entry["id"])
            entry.update({"video_id": str(entry["video_id"])} if "video_id" in entry else {})
    assert _fixed(tmp_path, tree) == _two_videos()


def test_ids_that_are_names_are_numbered_with_what_refers_to_them(tmp_path: Path) -> None:
    tree = _two_videos()
    tree["videos"][0]["id"], tree["annotations"][0]["video_id"] = "cat in a box", "cat in a box"
    tree["categories"][0]["id"] = "cat"
    for annotation in tree["annotations"]:
        annotation["category_id"] = "cat"
    source = write_tiny(tmp_path, tree)
    errors = [finding.code for finding in check_file(source, Settings()).findings if finding.severity == "error"]
    assert sorted(errors) == ["category-id", "video-id"]
    assert _fixed(tmp_path, tree) == _two_videos()


@pytest.mark.parametrize("drop", [False, True])
def test_ids_that_would_become_equal_are_left_alone(tmp_path: Path, drop: bool) -> None:
    """1 and "1": the annotation of "1" is of the second video, or of the first; nobody guesses."""
    tree = _two_videos()
    tree["videos"][1]["id"] = tree["annotations"][1]["video_id"] = "1"
    source = write_tiny(tmp_path, tree)
    findings = {finding.code: finding.text for finding in check_file(source, Settings()).findings}
    assert findings["video-id"] == 'the id is "1", and that of videos[0] is 1: are they one?'
    fix_file(source, tmp_path / "fixed.json", Settings(), drop)
    assert json.loads((tmp_path / "fixed.json").read_text()) == tree


def test_annotations_with_ids_that_would_become_equal_are_told_apart(tmp_path: Path) -> None:
    """Nothing refers to them."""
    tree = _two_videos()
    tree["annotations"][1]["id"] = "1"
    assert _fixed(tmp_path, tree) == _two_videos()


def test_masks_under_another_name(tmp_path: Path) -> None:
    tree = tiny_tree()
    masks = tree["annotations"][0]["segmentation"] = tree["annotations"][0].pop("segmentations")
    assert _fixed(tmp_path, tree)["annotations"][0]["segmentations"] == masks
    tree["annotations"][0]["segmentation"] = masks[:2]
    (tmp_path / "fixed.json").unlink()
    (finding, *_) = check_file(write_tiny(tmp_path, tree), Settings()).findings
    assert (finding.code, finding.mend) == ("segmentations", None), "also --drop keeps it"


def test_frames_and_lists_under_another_name(tmp_path: Path) -> None:
    tree = tiny_tree()
    names = tree["videos"][0]["filenames"] = tree["videos"][0].pop("file_names")
    tree["annotation"] = tree.pop("annotations")
    codes = {finding.code for finding in check_file(write_tiny(tmp_path, tree), Settings()).findings}
    assert codes == {"video-frames", "top-level"}, "not taken for a test set"
    written = _fixed(tmp_path, tree)
    assert written["videos"][0]["file_names"] == names
    assert written["annotations"] == tiny_tree()["annotations"]


def test_points_in_an_image_of_coco_are_not_taken_for_lines(tmp_path: Path) -> None:
    """Polygons of two numbers are passed over, three or more of them are one polygon."""
    image = {"id": 1, "file_name": "v1/0.jpg", "width": 6, "height": 4}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1], [3, 1], [3, 3], [1, 3]]}
    tree = {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": [annotation]}
    source = write_tiny(tmp_path, tree)
    fix_file(source, tmp_path / "fixed.json", Settings())
    assert json.loads((tmp_path / "fixed.json").read_text())["annotations"][0]["segmentation"] == POLYGON
