"""The public data sets as they are laid out and written: YouTube-VIS 2019, 2021, 2022 and OVIS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import REAL
from PIL import Image

from syncvis.data.split import write_split
from syncvis.data.ytvis import VideoDataset
from syncvis.ops import masks as rle

HEIGHT, WIDTH, LENGTH = 10, 20, 3
BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[2:6, 3:9] = True
COMPRESSED = rle.encode(BOX)
RUNS = {"counts": [int(n) for n in rle.runs(COMPRESSED, "test")], "size": [HEIGHT, WIDTH]}

# Name: the JSON file, the folder of its frames, how masks are written, and what annotations are when there are none.
LAYOUTS: dict[str, tuple[str, str, Any]] = {
    "ytvis_2019 train": ("train.json", "train/JPEGImages", RUNS),
    "ytvis_2019 valid": ("valid.json", "valid/JPEGImages", None),
    "ytvis_2021 train": ("train/instances.json", "train/JPEGImages", RUNS),
    "ytvis_2022 valid": ("valid/instances.json", "valid/JPEGImages", None),
    "ovis train": ("annotations_train.json", "train", COMPRESSED),
    "ovis valid": ("annotations_valid.json", "valid", None),
    "synthetic train": ("train.json", "JPEGImages", COMPRESSED),
    "own polygons": ("annotations/train.json", "train", [[3, 2, 9, 2, 9, 6, 3, 6]]),
}


def _tree(mask: Any) -> dict[str, Any]:
    """With the keys that only some of the public files have."""
    names = [f"0a1b/{5 * t:05d}.jpg" for t in range(LENGTH)]
    extra = {"license": 1, "coco_url": "", "flickr_url": "", "date_captured": "2019-04-11", "v_frame_num": 99}
    sizes = {"height": HEIGHT, "width": WIDTH, "length": LENGTH}
    masks = {"segmentations": [None, mask, mask], "bboxes": [None, [3, 2, 6, 4], [3, 2, 6, 4]], "areas": [None, 24, 24]}
    track = {"id": 8, "video_id": 4, "category_id": 26, "iscrowd": 0, "occlusion": ["no"] * LENGTH} | sizes | masks
    return {
        "info": {"description": "YouTube-VIS", "version": "1.0"},
        "licenses": [{"id": 1}],
        "videos": [{"id": 4, "file_names": names} | sizes | extra],
        "categories": [{"id": 26, "name": "person", "supercategory": "object"}, {"id": 1, "name": "airplane"}],
        "annotations": None if mask is None else [track],
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_videos_of_each_layout_are_read(tmp_path: Path, layout: str) -> None:
    json_name, folder, mask = LAYOUTS[layout]
    frames = tmp_path / folder / "0a1b"
    frames.mkdir(parents=True)
    for t in range(LENGTH):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * t, 0, 0)).save(frames / f"{5 * t:05d}.jpg")
    (tmp_path / json_name).parent.mkdir(exist_ok=True)
    (tmp_path / json_name).write_text(json.dumps(_tree(mask)))
    dataset = VideoDataset.load(tmp_path, json_name)
    assert not dataset.is_still
    assert dataset.root == tmp_path / folder
    (video,) = dataset.videos
    assert (video.id, len(video)) == (4, LENGTH)
    assert abs(int(dataset.read_frame(video, 2)[0, 0, 0]) - 80) < 3
    if mask is None:
        assert video.tracks == ()
        return
    (track,) = video.tracks
    assert (track.id, track.label) == (8, 0)
    assert [track.has_mask(t) for t in range(LENGTH)] == [False, True, True]
    assert (track.mask(1) == BOX).all()


@pytest.mark.parametrize(
    ("frames", "source", "root"),
    [
        ("train/JPEGImages", "train.json", "."),
        ("train/JPEGImages", "../train.json", "train"),
        ("train", "annotations_train.json", "."),
        ("train", "../annotations_train.json", "train"),
    ],
)
def test_the_frames_of_our_own_split_are_found(tmp_path: Path, frames: str, source: str, root: str) -> None:
    """Also if there is a folder of another split with the same name."""
    tree = _tree(COMPRESSED)
    tree["videos"].append(tree["videos"][0] | {"id": 5, "file_names": [f"0c1d/{t}.jpg" for t in range(LENGTH)]})
    for video in tree["videos"]:
        for name in video["file_names"]:
            (tmp_path / frames / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / frames / name)
    (tmp_path / "valid" / "JPEGImages" / "other").mkdir(parents=True)
    (tmp_path / root / source).write_text(json.dumps(tree))
    dataset = VideoDataset.load(tmp_path / root, source)
    for out in (("train_split.json", "valid_split.json"), ("split/train.json", "split/valid.json")):
        write_split(dataset, 0.5, 0, *(tmp_path / root / name for name in out))
        for name in out:
            part = VideoDataset.load(tmp_path / root, name)
            assert part.root.resolve() == tmp_path / frames
            assert part.read_frame(part.videos[0], 0).shape == (HEIGHT, WIDTH, 3)


def test_a_long_video(tmp_path: Path) -> None:
    """YouTube-VIS 2022 adds videos of some hundred frames to the short ones."""
    tree = _tree(COMPRESSED)
    names = [f"0a1b/{t:05d}.jpg" for t in range(1500)]
    tree["videos"].append({"id": 5, "file_names": names, "height": HEIGHT, "width": WIDTH, "length": 1500})
    tree["annotations"].append(tree["annotations"][0] | {"id": 9, "video_id": 5, "segmentations": [COMPRESSED] * 1500})
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "train.json").write_text(json.dumps(tree))
    video = VideoDataset.load(tmp_path, "train.json").videos[1]
    assert video.file_names == tuple(names)
    assert (video.tracks[0].mask(1499) == BOX).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos (SYNCVIS_REAL_VIS) are not here")
def test_real_videos_in_every_form(tmp_path: Path) -> None:
    """Masks of real videos written as runs and as compressed counts are equal, and have the areas of the file."""
    tree = json.loads((REAL / "valid.json").read_text())
    areas = {entry["id"]: entry["areas"] for entry in tree["annotations"]}
    for entry in tree["annotations"]:
        for mask in entry["segmentations"]:
            mask["counts"] = [int(n) for n in rle.runs(mask, "test")]
    (tmp_path / "JPEGImages").symlink_to(REAL / "JPEGImages")
    (tmp_path / "valid.json").write_text(json.dumps(tree))
    as_runs, as_text = VideoDataset.load(tmp_path, "valid.json"), VideoDataset.load(REAL, "valid.json")
    for one, other in zip(as_runs.videos, as_text.videos, strict=True):
        assert [tuple(t.segmentations) for t in one.tracks] == [tuple(t.segmentations) for t in other.tracks]
        for track in one.tracks:
            assert [rle.area(mask) for mask in track.segmentations] == areas[track.id]
        assert (as_runs.read_frame(one, 7) == as_text.read_frame(other, 7)).all()
