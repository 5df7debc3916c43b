"""COCO files are checked with the rules of YouTube-VIS; what is free of errors is what the reader takes."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from mutations import mutate_tree
from PIL import Image
from typer.testing import CliRunner

from syncvis.cli import app
from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Report
from syncvis.data.check.mending import fix_file
from syncvis.data.coco import load_coco
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

ROUNDS = int(os.environ.get("SYNCVIS_FUZZ_ROUNDS", "400"))
HEIGHT, WIDTH = 20, 30
SQUARE = [3.0, 2.0, 13.0, 2.0, 13.0, 8.0, 3.0, 8.0]
OTHER = [20.0, 10.0, 28.0, 10.0, 28.0, 18.0, 20.0, 18.0]
LINE = [1.0, 1.0, 2.0, 2.0]
LAZY = {"mask-damaged", "missing-frame", "unreadable-image", "image-size"}
"""What the reader says when the mask or the picture is read."""

Tree = dict[str, Any]
Expected = set[tuple[str, int | None, int | None, str]]
"""Code, ids of image and annotation, key."""


def _box() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:8, 3:13] = True
    return mask


def _runs() -> Tree:
    """Uncompressed counts, as those of COCO's crowds."""
    return {"size": [HEIGHT, WIDTH], "counts": rle.runs(rle.encode(_box()), "test").tolist()}


def _tree() -> Tree:
    images = [{"id": n, "height": HEIGHT, "width": WIDTH, "file_name": f"{n:012d}.png"} for n in (9, 5, 7)]
    square: Tree = {"segmentation": [SQUARE], "bbox": [3.0, 2.0, 10.0, 6.0], "area": 60.0, "iscrowd": 0}
    other: Tree = {"segmentation": [OTHER, LINE], "bbox": [20.0, 10.0, 8.0, 8.0], "area": 64}
    annotations = [
        {"id": 11, "image_id": 9, "category_id": 1} | square,
        {"id": 12, "image_id": 9, "category_id": 2} | other,
        {"id": 13, "image_id": 5, "category_id": 2} | square | {"segmentation": rle.encode(_box())},
        {"id": 14, "image_id": 5, "category_id": 1, "segmentation": [OTHER]},
        {"id": 15, "image_id": 7, "category_id": 1} | square | {"segmentation": _runs(), "iscrowd": 1},
    ]
    categories = [{"id": 1, "name": "cat", "supercategory": "x"}, {"id": 2, "name": "dog", "supercategory": "x"}]
    info = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
    return copy.deepcopy(info | {"categories": categories})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Laid out as COCO is."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    for image in _tree()["images"]:
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "train2017" / image["file_name"])
    return _write(tmp_path / "annotations" / "instances_train2017.json", _tree())


def _write(path: Path, tree: Tree) -> Path:
    path.write_text(json.dumps(tree))
    return path


def _found(report: Report) -> Expected:
    assert all(finding.video is None and finding.frame is None for finding in report.findings)
    return {(finding.code, finding.image, finding.annotation, finding.key) for finding in report.findings}


def _load_everything(source: Path, tree: Tree) -> None:
    """With all classes of the file."""
    categories = tree.get("categories")
    found = [c.get("name") for c in categories if isinstance(c, dict)] if isinstance(categories, list) else []
    names = [name for name in found if isinstance(name, str)]
    wanted = [Category(n, name) for n, name in enumerate(names)]
    dataset = load_coco(source.parents[1], f"annotations/{source.name}", wanted, {name: name for name in names})
    for video in dataset.videos:
        dataset.read_frame(video, 0)
        for track in video.tracks:
            track.mask(0)


def test_a_good_file_has_no_findings(source: Path) -> None:
    report = check_file(source, Settings(deep=True))
    assert report.findings == ()
    assert report.sizes == {"images": 3, "annotations": 5, "categories": 2}
    _load_everything(source, _tree())


Damage = tuple[Callable[[Tree], object], Expected]


def _annotation(place: int, key: str, value: Any, *codes: str) -> Damage:
    entry = _tree()["annotations"][place]
    expected = {(code, entry["image_id"], entry["id"], f"annotations[{place}].{key}") for code in codes}
    return lambda tree: tree["annotations"][place].update({key: value}), expected


def _image(key: str, value: Any, code: str, where: str = "") -> Damage:
    return lambda tree: tree["images"][2].update({key: value}), {(code, 7, None, f"images[2]{where}")}


def _top(change: Callable[[Tree], object], code: str, key: str) -> Damage:
    return change, {(code, None, None, key)}


def _nothing() -> Any:
    return rle.encode(np.zeros((HEIGHT, WIDTH), bool))


DAMAGES: dict[str, Damage] = {
    "images are null": _top(lambda tree: tree.update(images=None), "top-level", "images"),
    "no annotations": _top(lambda tree: tree.pop("annotations"), "top-level", "annotations"),
    "annotations empty": _top(lambda tree: tree.update(annotations=[]), "top-level", "annotations"),
    "only crowds": _top(
        lambda tree: [entry.update(iscrowd=1) for entry in tree["annotations"]], "no-instances", "annotations"
    ),
    "image is text": _top(lambda tree: tree["images"].append("x"), "entry", "images[3]"),
    "annotation is null": _top(lambda tree: tree["annotations"].append(None), "entry", "annotations[5]"),
    "category name blank": _top(
        lambda tree: tree["categories"][0].update(name=""), "category-name", "categories[0].name"
    ),
    "category unused": _top(
        lambda tree: tree["categories"].append({"id": 3, "name": "x"}), "category-unused", "categories[2]"
    ),
    "image without id": (
        lambda tree: tree["images"][2].pop("id"),
        {("video-id", None, None, "images[2].id"), ("unknown-video", 7, 15, "annotations[4].image_id")},
    ),
    "image twice": (
        lambda tree: tree["images"].append(dict(tree["images"][2])),
        {("video-duplicate-id", 7, None, "images[3].id")},
    ),
    "image without annotations": (
        lambda tree: tree["annotations"].pop(),
        {("video-without-annotations", 7, None, "images[2]")},
    ),
    "height missing": _image("height", None, "video-size"),
    "file name missing": _image("file_name", None, "file-name", ".file_name"),
    "file name with ..": _image("file_name", "../a.png", "file-name-outside", ".file_name"),
    "picture missing": _image("file_name", "gone.png", "missing-frame", ".file_name"),
    "picture in two images": _image("file_name", f"{9:012d}.png", "shared-frames", ".file_name"),
    "picture of another size": (
        lambda tree: tree["images"][1].update(width=WIDTH + 1),
        {
            ("image-size", 5, None, "images[1].file_name"),
            ("mask-size", 5, 13, "annotations[2].segmentation"),
        },
    ),
    "annotation without id": (
        lambda tree: tree["annotations"][1].pop("id"),
        {("annotation-id", 9, None, "annotations[1].id")},
    ),
    "annotation id twice": (
        lambda tree: tree["annotations"][1].update(id=11),
        {("annotation-duplicate-id", 9, 11, "annotations[1].id")},
    ),
    "annotation id twice, once without a mask": (
        lambda tree: tree["annotations"][3].update(id=11, segmentation=None),
        {
            ("annotation-duplicate-id", 5, 11, "annotations[3].id"),
            ("empty-track", 5, 11, "annotations[3].segmentation"),
        },
    ),
    "annotation of no image": (
        lambda tree: tree["annotations"][1].update(image_id=1),
        {("unknown-video", 1, 12, "annotations[1].image_id")},
    ),
    "annotation without image": (
        lambda tree: tree["annotations"][1].pop("image_id"),
        {("unknown-video", None, 12, "annotations[1].image_id")},
    ),
    "annotation of no category": _annotation(1, "category_id", 5, "unknown-category"),
    "iscrowd is 2": _annotation(0, "iscrowd", 2, "iscrowd"),
    "iscrowd is text": _annotation(0, "iscrowd", "0", "iscrowd-type"),
    "mask null": _annotation(3, "segmentation", None, "empty-track"),
    "mask of a line": _annotation(3, "segmentation", [LINE], "empty-track", "mask-empty"),
    "mask without a pixel": _annotation(3, "segmentation", _nothing(), "empty-track", "mask-empty"),
    "mask is a number": _annotation(3, "segmentation", 7, "mask-type"),
    "mask of another size": _annotation(3, "segmentation", {"size": [WIDTH, HEIGHT], "counts": "0"}, "mask-size"),
    "runs too short": _annotation(4, "segmentation", {"size": [HEIGHT, WIDTH], "counts": [3, 4]}, "mask-damaged"),
    "compressed runs cut off": _annotation(
        2, "segmentation", {"size": [HEIGHT, WIDTH], "counts": rle.encode(_box())["counts"][:-2]}, "mask-damaged"
    ),
    "polygon of five numbers": _annotation(3, "segmentation", [SQUARE[:5]], "polygon"),
    "polygon beside the picture": _annotation(3, "segmentation", [[99.0] * 6], "polygon-far-outside"),
    "polygon a little outside": _annotation(3, "segmentation", [[-0.5, *OTHER[1:]]], "polygon-outside"),
    "box moved": _annotation(0, "bbox", [5.0, 2.0, 10.0, 6.0], "box-differs"),
    "box outside": _annotation(0, "bbox", [25.0, 2.0, 10.0, 6.0], "box-outside"),
    "box of three": _annotation(0, "bbox", [5.0, 2.0, 10.0], "box-invalid"),
    "box null": _annotation(0, "bbox", None, "box-missing"),
    "area wrong": _annotation(0, "area", 70.0, "area-differs"),
    "area is text": _annotation(0, "area", "x", "area-differs"),
    "area null": _annotation(0, "area", None, "area-missing"),
    "annotation twice": (
        lambda tree: tree["annotations"].append(copy.deepcopy(tree["annotations"][0]) | {"id": 99}),
        {("identical-tracks", 9, 99, "annotations[5]")},
    ),
    "annotation nearly twice": (
        lambda tree: tree["annotations"].append(
            {"id": 99, "image_id": 9, "category_id": 1, "segmentation": [[3, 2, 13, 2, 13, 8, 4, 8]]}
        ),
        {("overlap", 9, 99, "annotations[5].segmentation")},
    ),
}

MENDED = {
    "image is text", "annotation is null", "image twice", "height missing", "iscrowd is text", "box moved",
    "box outside", "box of three", "box null", "area wrong", "area is text", "area null", "annotation twice",
}  # fmt: skip
"""Damage whose mending gives back what was there."""

GOOD_BUT_OTHER = {
    "category name blank", "annotation without id", "annotation id twice", "annotation id twice, once without a mask",
    "annotation of no image",
    "annotation without image", "iscrowd is 2", "mask null", "mask of a line", "mask without a pixel",
}  # fmt: skip
"""Damage whose mending leaves a file without errors and warnings, but another one."""


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_with_the_ids_and_keys_of_the_file(source: Path, kind: str) -> None:
    tree = _tree()
    damage, expected = DAMAGES[kind]
    damage(tree)
    report = check_file(_write(source, tree), Settings())
    assert _found(report) == expected
    assert len(report.findings) == len(expected)
    _assert_reader_agrees(source, tree, report)


@pytest.mark.parametrize("kind", DAMAGES)
def test_mending_writes_a_file_of_coco(source: Path, kind: str) -> None:
    tree = _tree()
    DAMAGES[kind][0](tree)
    out = source.with_name("instances_fixed.json")
    fixed = fix_file(_write(source, tree), out, Settings(source.parents[1] / "train2017"))
    if kind in MENDED:
        assert json.loads(out.read_text()) == _tree()
    if kind in MENDED | GOOD_BUT_OTHER:
        assert not [finding for finding in fixed.remains.findings if finding.severity != "note"]
    else:
        assert _found(fixed.remains) == DAMAGES[kind][1]
        assert json.loads(out.read_text()) == tree


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: [entry.pop(key, None) for entry in tree["annotations"] for key in ("bbox", "area", "iscrowd")],
        lambda tree: [image.update(length=7, file_names=["x"], license=3) for image in tree["images"]],
        lambda tree: [entry.update(bboxes=[], segmentations=3, length=9) for entry in tree["annotations"]],
        lambda tree: tree["annotations"][3].update(segmentation=[LINE, OTHER, [1.0, 2.0]]),
        lambda tree: tree["annotations"][0].update(iscrowd=False, area=59),
        lambda tree: [tree["annotations"][n]["segmentation"].update(size=[20.0, 30.0]) for n in (2, 4)],
    ],
    ids=[
        "keys left out",
        "other keys of images",
        "other keys of annotations",
        "lines",
        "odd but fine",
        "sizes with a point",
    ],
)
def test_what_the_reader_does_not_mind(source: Path, change: Callable[[Tree], object]) -> None:
    tree = _tree()
    change(tree)
    report = check_file(_write(source, tree), Settings())
    assert {finding.code for finding in report.findings} <= {"iscrowd"}
    tree["annotations"][4]["iscrowd"] = 0  # to be read
    _load_everything(_write(source, tree), tree)


def test_a_box_is_that_of_the_mask_or_of_its_polygons(source: Path) -> None:
    """Pixels do not fill the tip of a wedge."""
    tree = _tree()
    wedge = [2.0, 8.0, 27.0, 9.0, 2.0, 10.0]
    tree["annotations"][0].update(segmentation=[wedge], area=25.0)
    for width, codes in ((25.0, []), (13.0, []), (19.0, ["box-differs"])):
        tree["annotations"][0]["bbox"] = [2.0, 8.0, width, 2.0]
        assert [finding.code for finding in check_file(_write(source, tree), Settings()).findings] == codes


def test_an_image_has_as_many_annotations_as_the_reader_takes(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without those that have no mask."""
    for module in ("syncvis.data.entries", "syncvis.data.check.video_rules"):
        monkeypatch.setattr(f"{module}.MAX_TRACKS", 1)
    tree = _tree()
    tree["annotations"][3]["segmentation"] = []
    report = check_file(_write(source, tree), Settings())
    assert _found(report) >= {("video-limit", 9, None, "images[0]")}
    assert ("video-limit", 5, None, "images[1]") not in _found(report)
    with pytest.raises(DataError, match="over the limit of 1"):
        _load_everything(source, tree)


def _assert_reader_agrees(source: Path, tree: Tree, report: Report) -> None:
    """The reader takes the file, if need be with damage that it meets later, just if the check finds no other error."""
    errors = {finding.code for finding in report.findings if finding.severity == "error"}
    refused = None
    try:
        _load_everything(source, tree)
    except DataError as error:
        refused = error
    if refused is None:
        assert errors <= LAZY, "taken; the damage is in images without instances"
    else:
        assert errors, str(refused)


def test_what_is_free_of_errors_is_what_the_reader_takes(source: Path) -> None:
    taken = 0
    for seed in range(ROUNDS):
        tree = _tree()
        mutate_tree(tree, random.Random(seed), 2)
        if "images" in tree and "videos" not in tree:
            report = check_file(_write(source, tree), Settings(deep=True))
            _assert_reader_agrees(source, tree, report)
            taken += not [finding for finding in report.findings if finding.severity == "error"]
    assert ROUNDS / 20 < taken < ROUNDS * 0.9, "both happen"


def _load(source: Path) -> VideoDataset:
    names = [category["name"] for category in _tree()["categories"]]
    classes = [Category(n, name) for n, name in enumerate(names)]
    return load_coco(source.parents[1], f"annotations/{source.name}", classes, {name: name for name in names})


@pytest.mark.parametrize(
    "blank",
    [
        [[3, 3, 3, 3, 3, 3]],
        {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]},
        rle.encode(np.zeros((HEIGHT, WIDTH), bool)),
        [LINE],
    ],
)
def test_an_image_of_a_mask_without_a_pixel_shows_no_instance(source: Path, blank: Any) -> None:
    tree = _tree()
    for entry in tree["annotations"]:
        if entry["image_id"] == 5:
            entry["segmentation"] = blank
    _write(source, tree)
    assert [video.id for video in _load(source).videos] == [9]
    for entry in tree["annotations"]:
        entry["segmentation"] = blank
    report = check_file(_write(source, tree), Settings())
    assert {finding.code for finding in report.findings if finding.severity == "error"} == {"no-instances"}
    with pytest.raises(DataError, match="no image shows an instance"):
        _load(source)


def _check(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


def test_what_a_person_and_a_program_read(source: Path) -> None:
    tree = _tree()
    for kind in ("box moved", "file name with ..", "annotation of no image"):
        DAMAGES[kind][0](tree)
    done = _check(_write(source, tree))
    assert done.stdout.splitlines()[:3] == [
        f"{source}: 3 images, 5 annotations, 2 categories",
        "  error file-name-outside: a file name leaves the folder of the frames: 1",
        '    image 7 (images[2].file_name): "../a.png" leaves the folder of the frames',
    ]
    assert "error unknown-video: an annotation is of no image in the file: 1" in done.stdout
    assert "image 1, annotation 12 (annotations[1].image_id): there is no image 1" in done.stdout
    assert "[--fix: set bbox to [3.0, 2.0, 10.0, 6.0]]" in done.stdout
    (report,) = json.loads(_check(source, "--json").stdout)["files"]
    found = {one["code"]: (one["image"], one["video"], one["annotation"]) for one in report["findings"]}
    assert found["box-differs"] == (9, None, 11)
