"""Files of other formats are named by check and readers, and --fix leaves them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from tiny import SQUARE, cocovid_tree, cvat_tree, tiny_tree, write_tiny
from typer.testing import CliRunner

from syncvis.cli import app
from syncvis.config import DataConfig
from syncvis.data.annotations import Category
from syncvis.data.check.checking import Settings, annotation_files, check_file
from syncvis.data.coco import load_coco
from syncvis.data.mixing import load_mix
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError

ROW = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [SQUARE, SQUARE, None]}
SEQUENCE = {
    "id": 0, "seq_name": "s", "dataset": "BDD", "width": 6, "height": 4, "all_image_paths": ["0.jpg", "1.jpg"],
    "annotated_image_paths": ["0.jpg"], "track_category_ids": {"3": 805},
    "segmentations": [{"3": {"rle": "5220;", "is_gt": True}}],
}  # fmt: skip
FOREIGN: dict[str, tuple[Any, str]] = {
    "CocoVID": (cocovid_tree(), "per-image tracks in COCO's manner (CocoVID: 'videos' and 'images')"),
    "CVAT": (cvat_tree(), "COCO with track ids (as CVAT exports videos)"),
    "BURST": ({"split": "val", "categories": [{"id": 805, "name": "person"}], "sequences": [SEQUENCE]}, "BURST"),
    "YouTube-VOS": (
        {"videos": {"0a1b2c": {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}}}}},
        "YouTube-VOS meta data",
    ),
    "results": ([ROW], "results (predictions with scores), not annotations"),
    "labelme": ({"shapes": [], "imagePath": "0.jpg", "imageHeight": 4, "imageWidth": 6}, "labelme"),
    "a tracker's": (
        {
            "videos": [{"id": 1, "file_name": "MOT17-02"}],
            "images": [{"id": 1, "file_name": "MOT17-02/1.jpg", "video_id": 1, "frame_id": 1}],
            "annotations": [{"id": 1, "image_id": 1, "track_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
            "categories": [{"id": 1, "name": "pedestrian"}],
        },
        "per-image tracks in COCO's manner",
    ),
}


def _check(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_named_and_left_alone(tmp_path: Path, kind: str) -> None:
    tree, name = FOREIGN[kind]
    source, out = write_tiny(tmp_path, tree), tmp_path / "fixed.json"
    done = _check(source)
    assert done.exit_code == 3
    assert done.stdout.splitlines()[1] == "  error foreign-format: the file is in another format: 1"
    assert f"this is {name}" in done.stdout.splitlines()[2]
    assert done.stdout.splitlines()[3].strip() == "1 error, 0 warnings, 0 notes", "and nothing that follows from it"
    for words in ((), ("--drop",)):
        error = _check(source, "--fix", out, *words).exception
        assert isinstance(error, DataError)
        assert f"is {name}" in error.problem
        assert not out.exists()
    with pytest.raises(DataError, match=r"gt\.json: is ") as caught:
        VideoDataset.load(tmp_path, "gt.json")
    assert name in caught.value.problem
    assert "add 'videos'" not in str(caught.value)


def test_coco_read_as_videos_and_videos_read_as_coco_are_named(tmp_path: Path) -> None:
    tree = cvat_tree()
    for annotation in tree["annotations"]:
        del annotation["attributes"]
    write_tiny(tmp_path, tree)
    with pytest.raises(DataError, match=r"is COCO \('images'\), not videos\. Fix: name it in data\.mix"):
        VideoDataset.load(tmp_path, "gt.json")
    write_tiny(tmp_path, tiny_tree())
    with pytest.raises(DataError, match=r"is YouTube-VIS \('videos'\), not COCO"):
        load_coco(tmp_path, "gt.json", [Category(1, "cat")])


@pytest.mark.parametrize("tree", [cocovid_tree(), cvat_tree()], ids=["CocoVID", "CVAT"])
def test_tracks_are_not_trained_as_stills_without_a_word(tmp_path: Path, tree: Any) -> None:
    write_tiny(tmp_path, tree)
    categories = [Category(1, "cat")]
    mix = DataConfig.model_validate(
        {
            "root": str(tmp_path),
            "mix": [{"root": str(tmp_path), "train": "gt.json", "format": "coco", "pseudo": True}],
            "pseudo": {},
        }
    )
    for dataset in (load_coco(tmp_path, "gt.json", categories), *load_mix(mix, categories)):
        (note,) = dataset.notes
        assert note.startswith("is ")
        assert "each image is trained as a still picture, without its tracks" in note


def test_what_is_read_as_it_is_has_no_notes(tmp_path: Path) -> None:
    write_tiny(tmp_path, tiny_tree())
    assert VideoDataset.load(tmp_path, "gt.json").notes == ()
    tree = cvat_tree()
    for annotation in tree["annotations"]:
        annotation["attributes"] = {"occluded": False}
    write_tiny(tmp_path, tree)
    assert load_coco(tmp_path, "gt.json", [Category(1, "cat")]).notes == ()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("Annotations/v/00000.png", r"masks as PNG files \(DAVIS, YouTube-VOS\)"),
        ("Annotations/480p/v/00000.png", r"masks as PNG files \(DAVIS, YouTube-VOS\)"),
        ("train/Annotations/v/00000.png", r"masks as PNG files \(DAVIS, YouTube-VOS\)"),
        ("train/MOT17-02/gt/gt.txt", "tracks as text"),
        ("labels/train/0.txt", "YOLO"),
        ("Annotations/0.xml", "XML files"),
    ],
)
def test_a_folder_of_another_format_is_named(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / "JPEGImages" / "v").mkdir(parents=True)
    (tmp_path / file).parent.mkdir(parents=True)
    Image.new("L", (6, 4)).save(tmp_path / file, "png")
    with pytest.raises(DataError, match=f"no JSON file here has annotations: these are {words}.*Fix: "):
        annotation_files(tmp_path)


def test_foreign_files_of_a_folder_are_shown_if_there_are_no_others(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / f"{n:02}.json").write_text(json.dumps(FOREIGN["labelme"][0]))
    files = annotation_files(tmp_path)
    assert len(files) == 20, "a few tell enough"
    assert [finding.code for finding in check_file(files[0], Settings()).findings] == ["foreign-format"]
    source = write_tiny(tmp_path, tiny_tree())
    assert annotation_files(tmp_path) == [source]
