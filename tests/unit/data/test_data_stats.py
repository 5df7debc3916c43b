"""Counts of small data sets, computed by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import REAL
from pycocotools import mask as coco

from syncvis.data.stats import Spread, Statistics, combine, count
from syncvis.data.stats_text import report, to_json
from syncvis.data.text_table import aligned, markdown
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

BOX = np.zeros((10, 20), bool)
BOX[2:6, 3:9] = True  # 24 of 200 pixels
MASK, POLYGON, BLANK = rle.encode(BOX), [[0, 0, 20, 0, 20, 10, 0, 10]], rle.encode(np.zeros((10, 20), bool))


def _video(video_id: int, frames: int, height: int = 10, width: int = 20) -> dict[str, Any]:
    names = [f"{video_id}/{t}.png" for t in range(frames)]
    return {"id": video_id, "height": height, "width": width, "length": frames, "file_names": names}


def _track(track_id: int, video_id: int, category_id: int, segmentations: list[Any], crowd: int = 0) -> dict[str, Any]:
    entry = {"id": track_id, "video_id": video_id, "category_id": category_id, "iscrowd": crowd}
    return entry | {"segmentations": segmentations}


TREE: dict[str, Any] = {
    "videos": [_video(1, 4), _video(2, 2), _video(3, 3, 6, 8)],
    "categories": [{"id": 30, "name": "cat"}, {"id": 10, "name": "dog"}, {"id": 20, "name": "emu"}],
    "annotations": [
        _track(1, 1, 30, [MASK, None, MASK, MASK]),  # absent once
        _track(2, 1, 10, [None] * 4),  # never seen
        _track(3, 2, 30, [POLYGON, MASK], crowd=1),
        _track(4, 2, 10, [None, BLANK]),  # a mask without a pixel
    ],
}


def _count(root: Path, tree: dict[str, Any], name: str = "train.json") -> Statistics:
    (root / "JPEGImages").mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(tree))
    return count(VideoDataset.load(root, name))


def test_counts(tmp_path: Path) -> None:
    assert _count(tmp_path, TREE).summary() == {
        "name": "train.json",
        "videos": 3,
        "categories": 3,
        "categories_used": 2,
        "instances": 4,
        "masks": 3 + 0 + 2 + 0,
        "frames": 9,
        "masks_per_frame": 5 / 9,
        "objects_per_video": 4 / 3,
        "objects_per_video_max": 2,
        "video_length": {"min": 2, "mean": 3, "median": 3, "max": 4},
        "instance_duration": {"min": 2, "mean": 2.5, "median": 2.5, "max": 3},
        "never_seen": 2,
        "crowds": 1,
        "crowd_share": 0.25,
        "blank_masks": 1,
        "mask_area": pytest.approx({"min": 0.12, "mean": (4 * 0.12 + 1) / 5, "median": 0.12, "max": 1.0}),
        "frame_sizes": {"10x20": 2, "6x8": 1},
        "repeated_videos": 0,
        "per_category": {
            "cat": {"instances": 2, "masks": 5},
            "dog": {"instances": 2, "masks": 0},
            "emu": {"instances": 0, "masks": 0},
        },
    }


@pytest.mark.parametrize(
    "blank",
    [
        BLANK,
        {"size": [10, 20], "counts": [200]},
        {"size": [10, 20], "counts": [5, 0, 195]},
        {
            "size": [10, 20],
            "counts": coco.frPyObjects({"counts": [5, 0, 195], "size": [10, 20]}, 10, 20)["counts"].decode(),
        },
        [],
        [[1, 1, 1, 1, 1, 1]],
        [[1.2, 1.2, 1.3, 1.2, 1.3, 1.3], [7, 7, 7.1, 7, 7.1, 7.1]],
        [[0, 0, 9, 9, 0, 0]],
    ],
)
def test_masks_without_a_pixel_are_never_masks(tmp_path: Path, blank: Any) -> None:
    annotations = [_track(1, 1, 30, [MASK, blank, None, blank]), _track(2, 1, 10, [blank] * 4)]
    found = _count(tmp_path, TREE | {"annotations": annotations})
    summary = found.summary()
    assert (summary["masks"], summary["blank_masks"], summary["never_seen"], summary["instances"]) == (1, 6, 1, 2)
    assert "masks without a pixel (not counted) 6" in " ".join(report([found], None).split())
    assert "without a pixel" not in report([_count(tmp_path, TREE | {"annotations": []})], None)


def test_damage_in_a_mask_without_ones_is_noticed_at_once(tmp_path: Path) -> None:
    for counts in ("9", [9], [3, 0, 3]):
        masks = [{"size": [10, 20], "counts": counts}, *[None] * 3]
        with pytest.raises(DataError, match=r"annotations\[0\]\.segmentations\[0\]: damaged mask: counts does not sum"):
            _count(tmp_path, TREE | {"annotations": [_track(1, 1, 30, masks)]})


def test_a_damaged_mask_is_refused(tmp_path: Path) -> None:
    tree = copy.deepcopy(TREE)
    tree["annotations"][0]["segmentations"][0] = {"size": [10, 20], "counts": "damaged"}
    with pytest.raises(DataError, match=r"annotations\[0\]\.segmentations\[0\]"):
        _count(tmp_path, tree)


@pytest.mark.parametrize("annotations", [None, []])
def test_a_split_without_labels(tmp_path: Path, annotations: list[Any] | None) -> None:
    found = _count(tmp_path, TREE | {"annotations": annotations})
    summary = found.summary()
    assert (summary["instances"], summary["masks"], summary["crowd_share"]) == (0, 0, 0)
    assert summary["instance_duration"] is None
    assert summary["mask_area"] is None
    assert "instances" in report([found], None)


def test_together_counts_both_and_joins_categories_by_name(tmp_path: Path) -> None:
    other = {
        "videos": [_video(9, 5)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "fox"}],
        "annotations": [_track(1, 9, 1, [MASK] * 5)],
    }
    parts = [_count(tmp_path, TREE), _count(tmp_path, other, name="valid.json")]
    both = combine(parts).summary()
    assert (both["name"], both["videos"], both["frames"], both["instances"], both["masks"]) == (
        "together",
        4,
        14,
        5,
        10,
    )
    assert (both["categories"], both["categories_used"], both["objects_per_video"]) == (4, 2, 5 / 4)
    assert both["per_category"]["dog"] == {"instances": 3, "masks": 5}
    assert both["video_length"] == {"min": 2, "mean": 3.5, "median": 3.5, "max": 5}
    assert both["frame_sizes"] == {"10x20": 3, "6x8": 1}
    assert len(combine(parts).areas) == 10
    assert [part["name"] for part in to_json(parts, None)["splits"]] == ["train.json", "valid.json"]


def test_a_video_in_two_files_is_reported(tmp_path: Path) -> None:
    parts = [_count(tmp_path, TREE), _count(tmp_path, TREE, name="again.json")]
    assert combine(parts).repeated == 3
    assert "3 videos name the frames of an earlier one" in report(parts, None)


def test_categories_of_one_name_stay_apart(tmp_path: Path) -> None:
    tree = copy.deepcopy(TREE)
    tree["categories"][1]["name"] = "cat"
    found = _count(tmp_path, tree).summary()
    assert set(found["per_category"]) == {"cat (30)", "cat (10)", "emu"}
    assert found["per_category"]["cat (10)"] == {"instances": 2, "masks": 0}


def test_spread_of_an_even_number_and_of_none() -> None:
    assert Spread.of([4, 1, 3, 2]) == Spread(1, 2.5, 2.5, 4)
    assert Spread.of([]) is None


def test_tables_as_text() -> None:
    rows = [["", "train"], ["videos", "1,234"], ["a|b", "5"]]
    assert aligned(rows) == "        train\nvideos  1,234\na|b         5"
    assert markdown(rows) == "|  | train |\n| --- | --: |\n| videos | 1,234 |\n| a\\|b | 5 |"


def test_names_cannot_steer_a_terminal() -> None:
    rows = [["", "n"], ["a\x1b[31m\nb", "1"], ["\ud800\u4e2d", "2"]]
    assert aligned(rows) == "              n\na\\x1b[31m\\nb  1\n\\ud800\u4e2d       2"
    assert markdown(rows).splitlines()[2:] == ["| a\\x1b[31m\\nb | 1 |", "| \\ud800\u4e2d | 2 |"]


def test_report_names_every_category_most_instances_first(tmp_path: Path) -> None:
    lines = report([_count(tmp_path, TREE)], None).splitlines()
    start = lines.index("category  instances  masks")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["cat", "2", "5"],
        ["dog", "2", "0"],
        ["emu", "0", "0"],
    ]
    assert ["masks", "per", "frame", "0.56"] in [line.split() for line in lines]


def test_rare_sizes_are_added_up(tmp_path: Path) -> None:
    tree = {"videos": [_video(n, 1, 10 + n, 20) for n in range(13)], "categories": TREE["categories"]}
    assert report([_count(tmp_path, tree)], None).splitlines()[-1].split() == ["3", "other", "sizes", "3"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos (shared/data/real-vis-mini) are not here")
@pytest.mark.parametrize(
    ("split", "videos", "frames", "instances", "masks", "used"),
    [("train.json", 4, 229, 7, 397, 5), ("valid.json", 2, 92, 3, 135, 3)],
)
def test_real_videos(split: str, videos: int, frames: int, instances: int, masks: int, used: int) -> None:
    """As their README lists them: frames of each video times its tracks, none ever absent."""
    found = count(VideoDataset.load(REAL, split)).summary()
    names = ("videos", "frames", "instances", "masks", "categories_used", "categories", "never_seen")
    assert [found[name] for name in names] == [videos, frames, instances, masks, used, 6, 0]
