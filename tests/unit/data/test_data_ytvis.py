from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import REAL
from PIL import Image

from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

HEIGHT, WIDTH = 10, 20

BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[2:6, 3:9] = True
POLYGON = [3, 2, 9, 2, 9, 6, 3, 6]


def _tree() -> dict[str, Any]:
    return {
        "videos": [
            {"id": 5, "height": HEIGHT, "width": WIDTH, "length": 2, "file_names": ["v/0.png", "v/1.png"]},
            {"id": 7, "height": HEIGHT, "width": WIDTH, "length": 1, "file_names": ["w/0.png"]},
        ],
        "categories": [{"id": 30, "name": "cat"}, {"id": 10, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "video_id": 5,
                "category_id": 10,
                "iscrowd": 0,
                "segmentations": [rle.encode(BOX), None],
            },
            {
                "id": 2,
                "video_id": 5,
                "category_id": 30,
                "iscrowd": 1,
                "segmentations": [None, rle.encode(~BOX)],
            },
        ],
    }


def _write(root: Path, tree: Any) -> Path:
    (root / "JPEGImages").mkdir(exist_ok=True)
    (root / "train.json").write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return root


def _load_with(root: Path, segmentations: list[Any]) -> np.ndarray:
    tree = _tree()
    tree["annotations"][0]["segmentations"] = segmentations
    return VideoDataset.load(_write(root, tree), "train.json").videos[0].tracks[0].mask(0)


def test_videos_tracks_and_labels(tmp_path: Path) -> None:
    dataset = VideoDataset.load(_write(tmp_path, _tree()), "train.json")
    assert dataset.categories == (Category(30, "cat"), Category(10, "dog"))
    first, second = dataset.videos
    assert (first.id, len(first), first.height, first.width) == (5, 2, HEIGHT, WIDTH)
    assert [(t.id, t.label, t.iscrowd) for t in first.tracks] == [(1, 1, False), (2, 0, True)]
    assert second.tracks == ()
    track = first.tracks[0]
    assert [track.has_mask(t) for t in (0, 1)] == [True, False]
    np.testing.assert_array_equal(track.mask(0), BOX)
    assert track.mask(1).shape == BOX.shape
    assert not track.mask(1).any()


def test_a_mask_without_a_pixel_is_read_as_absent(tmp_path: Path) -> None:
    tree = _tree()
    tree["annotations"][0]["segmentations"] = [rle.encode(BOX & ~BOX), rle.encode(BOX)]
    tree["annotations"][1]["segmentations"] = [[[3, 3, 3, 3, 3, 3]], []]
    seen, unseen = VideoDataset.load(_write(tmp_path, tree), "train.json").videos[0].tracks
    assert [track.has_mask(t) for track in (seen, unseen) for t in (0, 1)] == [False, True, False, False]
    assert [(track.is_seen, track.blank) for track in (seen, unseen)] == [(True, 1), (False, 2)]
    assert (seen.segmentations[0], seen.mask(0).any(), seen.mask(1).sum()) == (None, False, BOX.sum())


def test_a_test_set_has_no_tracks(tmp_path: Path) -> None:
    for empty in ({}, {"annotations": None}, {"annotations": []}):
        tree = {key: value for key, value in _tree().items() if key != "annotations"} | empty
        videos = VideoDataset.load(_write(tmp_path, tree), "train.json").videos
        assert [video.tracks for video in videos] == [(), ()]


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    tree = _tree()
    one = VideoDataset.load(_write(tmp_path, tree), "train.json").fingerprint
    assert one == VideoDataset.load(tmp_path, "train.json").fingerprint
    tree["categories"][0]["name"] = "lion"
    assert one != VideoDataset.load(_write(tmp_path, tree), "train.json").fingerprint


@pytest.mark.parametrize("json_name", ["train.json", "train/instances.json"])
@pytest.mark.parametrize("folder", ["", "train"])
def test_frames_are_found_in_the_usual_places(tmp_path: Path, json_name: str, folder: str) -> None:
    path = tmp_path / folder / "JPEGImages" / "v" / "0.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(path)
    (tmp_path / json_name).parent.mkdir(exist_ok=True)
    (tmp_path / json_name).write_text(json.dumps(_tree()))
    dataset = VideoDataset.load(tmp_path, json_name)
    frame = dataset.read_frame(dataset.videos[0], 0)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame[0, 0].tolist() == [1, 2, 3]


def test_missing_frames_folder(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(_tree()))
    with pytest.raises(DataError, match="JPEGImages: the folder with the frames is missing"):
        VideoDataset.load(tmp_path, "train.json")


def test_every_kind_of_segmentation_gives_the_same_mask(tmp_path: Path) -> None:
    runs = [int(n) for n in rle.runs(rle.encode(BOX), "test")]
    kinds = [rle.encode(BOX), {"size": [HEIGHT, WIDTH], "counts": runs}, [POLYGON]]
    for segmentation in kinds:
        np.testing.assert_array_equal(_load_with(tmp_path, [segmentation, None]), BOX)


def test_polygons_of_one_frame_are_joined(tmp_path: Path) -> None:
    other = [12, 6, 16, 6, 16, 9, 12, 9]
    expected = BOX.copy()
    expected[6:9, 12:16] = True
    np.testing.assert_array_equal(_load_with(tmp_path, [[POLYGON, other], None]), expected)
    assert not _load_with(tmp_path, [[], None]).any()


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([[1, 2, 3]], "3 numbers, not three or more pairs of x, y"),
        ([[1, 2, 3, 4, 5, "6"]], "the polygon has numbers written as text"),
        ([1, 2, 3, 4, 5, 6], "the polygon is a flat list of numbers, not inside a list"),
        ([[0, 0, 99, 0, 99, 9]], "79 pixels outside the frame of 10 x 20"),
        ([[0, 0, float("nan"), 0, 9, 9]], "polygon 0 has a number that is not finite"),
        ({"size": [HEIGHT, WIDTH], "counts": "###"}, "damaged mask"),
        ({"size": [HEIGHT, WIDTH]}, "damaged mask"),
    ],
)
def test_damaged_mask_is_named_when_it_is_read(tmp_path: Path, segmentation: Any, problem: str) -> None:
    place = r"train\.json: annotations\[0\]\.segmentations\[0\]"
    with pytest.raises(DataError, match=rf"{place}: .*{re.escape(problem)}.*Fix: "):
        _load_with(tmp_path, [segmentation, None])


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        for step in path[:-1]:
            tree = tree[step]
        tree[path[-1]] = to

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        for step in path[:-1]:
            tree = tree[step]
        del tree[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_drop("videos"), "videos: the key is missing"),
        (_drop("categories"), "categories: the key is missing"),
        (_drop("videos", 1, "file_names"), "videos[1].file_names: the key is missing"),
        (_drop("annotations", 1, "category_id"), "annotations[1].category_id: the key is missing"),
        (_drop("annotations", 0, "segmentations"), "annotations[0].segmentations: the key is missing"),
        (_set("videos", to=[]), "videos: there are no videos"),
        (_set("videos", to={}), "videos: is an object, not a list"),
        (_set("videos", 0, to=3), "videos[0]: is a whole number, not an object"),
        (_set("categories", to=[]), "categories: there are no categories"),
        (_set("annotations", to="x"), "annotations: is text, not a list"),
        (_set("videos", 1, "id", to=5), "videos: the id 5 occurs twice"),
        (_set("videos", 1, "id", to=True), "videos[1].id: is true or false, not a whole number"),
        (_set("categories", 1, "name", to=" "), "categories[1].name: the name is blank"),
        (_set("categories", 1, "id", to=30), "categories: the id 30 occurs twice"),
        (_set("annotations", 1, "id", to=1), "annotations: the id 1 occurs twice"),
        (_set("annotations", 1, "category_id", to=99), "annotations[1].category_id: 99 is not the id of"),
        (
            _set("annotations", 0, "video_id", to=6),
            "annotations[0].video_id: 6 is not the id of one of the videos",
        ),
        (_set("annotations", 0, "segmentations", to=[None]), "1 masks for the 2 frames of video 5"),
        (
            _set("annotations", 0, "segmentations", 1, to={"size": [9, 20], "counts": "0"}),
            "annotations[0].segmentations[1].size: the mask is 9 x 20, its video 10 x 20",
        ),
        (_set("annotations", 0, "segmentations", 1, to="abc"), "annotations[0].segmentations[1]: is text"),
        (_set("annotations", 0, "areas", to=[10**400, None]), "annotations[0].areas: is not a list of pixels"),
        (_set("annotations", 0, "iscrowd", to="0"), "annotations[0].iscrowd: is text, not 0 or 1"),
        (_set("videos", 0, "length", to=2.0), "videos[0].length: length is 2.0"),
        (_set("videos", 0, "length", to=3), "videos[0].length: length is 3, but file_names lists 2 frames"),
        (_set("videos", 0, "file_names", to=[]), "videos[0].file_names: the video has no frames"),
        (_set("videos", 0, "file_names", 1, to=None), "videos[0].file_names[1]: is null, not a file name"),
        (_set("videos", 0, "height", to=0), "videos[0]: size 0 x 20"),
        (_set("videos", 0, "width", to=10**8), "videos[0]: size 10 x 100000000"),
        (_set("videos", 0, "width", to="20"), "videos[0].width: is text, not a whole number"),
        *[
            (
                _set("videos", 0, "file_names", 1, to=name),
                f"videos[0].file_names[1]: {name!r} leaves the folder",
            )
            for name in ("../secret.png", "/etc/passwd", "v/../../x.png", "..\\x.png", "C:\\x.png", ".")
        ],
        (
            _set("videos", 0, "file_names", 1, to="C:\\data\\0.jpg"),
            "videos[0].file_names[1]: 'C:\\\\data\\\\0.jpg' leaves the folder JPEGImages: it is written on Windows. "
            "Fix: use a path relative to that folder, and write '/', without '..'",
        ),
    ],
)
def test_each_fault_is_named_once_with_its_place_and_fix(
    tmp_path: Path, change: Callable[[Any], None], expected: str
) -> None:
    tree = copy.deepcopy(_tree())
    change(tree)
    with pytest.raises(DataError) as caught:
        VideoDataset.load(_write(tmp_path, tree), "train.json")
    text = str(caught.value)
    assert expected in text
    assert text.startswith(str(tmp_path / "train.json"))
    assert ". Fix: " in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"videos": [\n  1,,\n]}', r"train\.json: line 2, column 5: not valid JSON"),
        ("", r"train\.json: is an empty file, not JSON"),
        (" ", r"train\.json: line 1, column 2: not valid JSON"),
        ("[]", r"train\.json: holds a list, not an object"),
        ("[" * 100_000, r"train\.json: .*not valid JSON"),
    ],
)
def test_broken_json(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        VideoDataset.load(_write(tmp_path, content), "train.json")


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read .*Fix: correct the folder, or the name"):
        VideoDataset.load(tmp_path, "none.json")


def test_binary_json(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_bytes(b"\xff\xfe\x80\x81")
    with pytest.raises(DataError, match="not valid JSON"):
        VideoDataset.load(tmp_path, "train.json")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos (SYNCVIS_REAL_VIS) are not here")
@pytest.mark.parametrize(("split", "videos", "tracks"), [("train", 4, 7), ("valid", 2, 3)])
def test_real_videos(split: str, videos: int, tracks: int) -> None:
    dataset = VideoDataset.load(REAL, f"{split}.json")
    assert len(dataset.videos) == videos
    assert sum(len(video.tracks) for video in dataset.videos) == tracks
    assert [category.name for category in dataset.categories][:2] == ["person", "horse"]
    areas = json.loads((REAL / f"{split}.json").read_text())["annotations"][0]["areas"]
    video = dataset.videos[0]
    assert video.tracks[0].mask(3).sum() == areas[3]
    assert dataset.read_frame(video, 3).shape == (video.height, video.width, 3)
