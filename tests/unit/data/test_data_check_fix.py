from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import DAMAGES, Copy, clean_copy, found

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Edit
from syncvis.data.check.mending import apply, fix_file
from syncvis.errors import DataError, StorageError

RESTORED = (
    "entry is text", "video twice", "width missing", "height zero", "video too large", "length wrong",
    "video higher than its images", "annotation of another width", "track twice", "one box too few",
    "box null, mask there", "box moved", "box outside", "box with NaN", "box of negative width",
    "one area too few", "area null, mask there", "area wrong", "area infinite", "areas are text", "area is text",
    "iscrowd is text", "category id is text", "annotation of a category with a point", "height is text",
    "RLE of bytes as text",
)  # fmt: skip
"""Damage whose mending gives back what was there."""

GOOD_BUT_OTHER = (
    "annotation without id", "annotation id twice", "annotation of no video", "category without name", "iscrowd is 2",
    "category name blank",
    "polygon flat", "mask null, box there", "mask without pixels", "no frames", "no masks", "track empty",
)  # fmt: skip
"""Damage whose mending leaves a data set without errors and warnings, but another one."""


LISTS = ("videos", "categories", "annotations")


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Copy:
    return clean_copy(tiny_data, tmp_path / "copy")


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_fixed_file_shows_only_the_rest(data: Copy, kind: str) -> None:
    clean = data.source.read_text()
    DAMAGES[kind](data)
    data.save()
    damaged, out = data.source.read_bytes(), data.root / "fixed.json"
    fixed = fix_file(data.source, out, Settings(), drop=True)
    assert data.source.read_bytes() == damaged
    again = check_file(out, Settings())
    assert again.findings == fixed.remains.findings
    assert not [finding for finding in again.findings if finding.mend]
    written = json.loads(out.read_text())
    assert {name: len(written.get(name) or []) + fixed.dropped.get(name, 0) for name in LISTS} == {
        name: len(data.tree.get(name) or []) for name in LISTS
    }
    if kind in RESTORED:
        assert json.loads(out.read_text()) == json.loads(clean)
    if kind in RESTORED + GOOD_BUT_OTHER:
        assert not [finding for finding in again.findings if finding.severity != "note"]
    else:
        assert found(again) == found(fixed.before)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name, root: f"JPEGImages/{name}",
        lambda name, root: name.replace("/", "\\"),
        lambda name, root: f"{root}/JPEGImages/{name}",
        lambda name, root: f"/data/elsewhere/JPEGImages/{name}",
        lambda name, root: f"C:\\videos\\JPEGImages\\{name}".replace("/", "\\"),
        lambda name, root: f"other/../{name}",
    ],
    ids=["with JPEGImages", "backslashes", "absolute", "absolute elsewhere", "drive", "dots"],
)
def test_names_become_relative(data: Copy, rename: Callable[[str, Path], str]) -> None:
    clean = json.loads(data.source.read_text())
    names = data.video["file_names"]
    names[:] = [rename(name, data.root) for name in names]
    data.save()
    fix_file(data.source, data.root / "fixed.json", Settings())
    assert json.loads((data.root / "fixed.json").read_text()) == clean


def test_a_name_outside_is_never_followed(data: Copy) -> None:
    """Even if there is a good image."""
    (data.root / "secret.png").write_bytes(data.image.read_bytes())
    data.video["file_names"][data.frame] = "../secret.png"
    data.save()
    fixed = fix_file(data.source, data.root / "fixed.json", Settings())
    assert found(fixed.remains) == data.in_video("file-name-outside", data.frame)


def test_mending_goes_on_where_it_made_more_visible(data: Copy) -> None:
    """No mask fits until the height is right; boxes come after that."""
    clean = json.loads(data.source.read_text())
    data.video["height"] += 3
    DAMAGES["box moved"](data)
    data.save()
    fixed = fix_file(data.source, data.root / "fixed.json", Settings())
    assert {"video-image-size", "box-differs"} <= {finding.code for finding in fixed.mended}
    assert fixed.remains.findings == ()
    assert json.loads((data.root / "fixed.json").read_text()) == clean


def test_sizes_of_images_and_masks_that_disagree_are_left_alone(data: Copy) -> None:
    DAMAGES["mask of another size"](data)
    data.video["height"] += 3
    data.save()
    fixed = fix_file(data.source, data.root / "fixed.json", Settings())
    assert "video-image-size" in {finding.code for finding in fixed.remains.findings}


def test_annotations_stay_while_a_video_lost_its_id(data: Copy) -> None:
    DAMAGES["video without id"](data)
    data.save()
    fix_file(data.source, data.root / "fixed.json", Settings())
    assert json.loads((data.root / "fixed.json").read_text())["annotations"] == data.tree["annotations"]


def test_no_file_is_overwritten(data: Copy) -> None:
    for out in (data.source, data.root / "valid.json"):
        before = out.read_bytes()
        with pytest.raises(StorageError, match="exists already"):
            fix_file(data.source, out, Settings())
        assert out.read_bytes() == before


@pytest.mark.parametrize("content", ["{", "[1]", "null"])
def test_what_is_no_json_object_cannot_be_mended(data: Copy, content: str) -> None:
    data.source.write_text(content)
    with pytest.raises(DataError):
        fix_file(data.source, data.root / "fixed.json", Settings())
    assert not (data.root / "fixed.json").exists()


def test_edits_drop_from_the_back() -> None:
    tree = {"a": [{"x": 0}, 1, 2, 3], "b": [4, 5]}
    drops = [Edit(("a", 1), drop=True), Edit(("b", 0), drop=True), Edit(("a", 3), drop=True), Edit(("a", 1), drop=True)]
    apply(tree, [*drops, Edit(("a", 0, "x"), 7), Edit(("a", 0, "y"), 8)])
    assert tree == {"a": [{"x": 7, "y": 8}, 2], "b": [5]}
