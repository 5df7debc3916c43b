"""Foreign formats are known by what stands in them; our own, however damaged, are never taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from syncvis.data import formats
from syncvis.data.formats import Format, recognise, recognise_results, track_key
from syncvis.data.jsonfile import JsonFile

MASK = {"size": [4, 6], "counts": "5220;"}
IMAGE = {"id": 10, "file_name": "v1/0.jpg", "width": 6, "height": 4}
OF_IMAGE = {"id": 1, "image_id": 10, "category_id": 1, "segmentation": MASK, "bbox": [1, 1, 2, 2]}
OURS = {
    "videos": [{"id": 1, "width": 6, "height": 4, "length": 1, "file_names": ["v1/0.jpg"]}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": [MASK]}],
}
COCO = {"images": [IMAGE], "categories": OURS["categories"], "annotations": [OF_IMAGE]}

FOREIGN: list[tuple[Any, Format]] = [
    (
        {
            "videos": [{"id": 1, "name": "v1"}],
            "images": [{**IMAGE, "video_id": 1, "frame_id": 0}],
            "annotations": [{**OF_IMAGE, "instance_id": 5}],
        },
        formats.COCO_VID,
    ),
    ({**COCO, "annotations": [{**OF_IMAGE, "attributes": {"track_id": 5}}]}, formats.COCO_TRACKS),
    ({**COCO, "annotations": [{**OF_IMAGE, "track_id": 5}]}, formats.COCO_TRACKS),
    ({**COCO, "tracks": [{"id": 5}], "videos": [{"id": 1, "name": "v"}]}, formats.TAO),
    ({"sequences": [{"seq_name": "s", "annotated_image_paths": ["0.jpg"]}]}, formats.BURST),
    ({"videos": {"0a1b": {"objects": {"1": {"category": "cat", "frames": ["00000"]}}}}}, formats.YOUTUBE_VOS),
    ({"videos": {"0a1b": {"expressions": {}, "frames": []}}}, formats.EXPRESSIONS),
    ({"images": [IMAGE], "annotations": [{"image_id": 10, "segments_info": []}]}, formats.PANOPTIC),
    ({"shapes": [], "imagePath": "0.jpg"}, formats.LABELME),
    ({"_via_img_metadata": {}}, formats.VIA),
    ([{"id": 1, "annotations": [], "data": {}}], formats.LABEL_STUDIO),
    ([{"name": "a.jpg", "videoName": "v", "labels": []}], formats.SCALABEL),
    ({"video_id": "sav_1", "masklet": []}, formats.SA_V),
    ([{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [MASK]}], formats.RESULTS),
    ({"results": [{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [MASK]}]}, formats.RESULTS),
    ({"videos": [], "annotations": [{"video_id": 1, "score": 0.9, "segmentations": [MASK]}]}, formats.RESULTS),
    ([{"image_id": 10, "category_id": 1, "score": 0.9, "bbox": [1, 1, 2, 2]}], formats.IMAGE_RESULTS),
]


@pytest.mark.parametrize(
    ("tree", "expected"), FOREIGN, ids=[f"{n}-{known.name[:12]}" for n, (_, known) in enumerate(FOREIGN)]
)
def test_a_foreign_format_is_recognised(tree: Any, expected: Format, tmp_path: Path) -> None:
    assert recognise(tree) == expected
    if isinstance(tree, dict):  # also by the reader, which parses only the start of a list
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(tree))
        assert recognise(JsonFile(path).sample()) == expected


@pytest.mark.parametrize(
    "tree",
    [
        OURS,
        COCO,
        {**OURS, "images": [IMAGE]},
        {**OURS, "annotations": []},
        {**OURS, "annotations": [{**OURS["annotations"][0], "track_id": 3, "score": 0.5}]},
        {"videos": [], "categories": [], "annotations": []},
        {"videos": {}},
        {},
        [],
        None,
        {"annotations": 3},
    ],
)
def test_our_own_formats_and_damage_are_no_foreign_format(tree: Any) -> None:
    assert recognise(tree) is None


def test_what_is_given_as_results() -> None:
    row = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [MASK]}
    assert recognise_results([row]) is None
    assert "ground truth" in recognise_results(OURS).name
    assert "per image" in recognise_results([{"image_id": 10, "track_id": 5, "segmentation": MASK}]).name


def test_track_keys() -> None:
    assert track_key({"attributes": {"track_id": 0}}) == "attributes.track_id"
    assert track_key({"instance_id": 5}) == "instance_id"
    assert track_key({"track_id": None}) is None
    assert track_key({"attributes": [1]}) is None
