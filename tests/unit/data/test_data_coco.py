"""COCO instances as videos of one frame, with the classes of a video data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import REAL
from PIL import Image
from pycocotools.coco import COCO

from syncvis.config import DataConfig
from syncvis.data.coco import load_coco
from syncvis.data.coco_names import COCO_NAMES, names_for, plain
from syncvis.data.loader import TrainClips
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

HEIGHT, WIDTH = 10, 20
JSON = "annotations/instances_train2017.json"
BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[2:6, 3:9] = True
POLYGON = [3.0, 2.0, 9.0, 2.0, 9.0, 6.0, 3.0, 6.0]
RUNS = {"size": [HEIGHT, WIDTH], "counts": [int(n) for n in rle.runs(rle.encode(~BOX), "test")]}
VIS = tuple(Category(n + 1, name) for n, name in enumerate(["Fish", "sedan", "Tennis_Racket", "person", "motorbike"]))
MAP = {"car": "sedan", "tennis racket": "tennis_racket", "bicycle": "motorbike", "motorcycle": "motorbike"}
COCO_IDS = {"person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "tennis racket": 43, "toaster": 80}


def _annotation(number: int, image: int, name: str, **changes: Any) -> dict[str, Any]:
    common = {"id": number, "image_id": image, "category_id": COCO_IDS[name], "iscrowd": 0, "area": 24.0}
    return common | {"segmentation": [POLYGON], "bbox": [3.0, 2.0, 6.0, 4.0]} | changes


def _tree() -> dict[str, Any]:
    """Annotations stand before categories, as in the public files."""
    images = [{"id": n, "height": HEIGHT, "width": WIDTH, "file_name": f"{n:012d}.jpg"} for n in (9, 5, 7, 3, 2)]
    annotations = [
        _annotation(11, 9, "car"),
        _annotation(12, 5, "toaster"),
        _annotation(13, 7, "motorcycle"),
        _annotation(14, 9, "bicycle", iscrowd=1, segmentation=RUNS),
        _annotation(15, 3, "car", iscrowd=1, segmentation=RUNS),
        _annotation(16, 7, "tennis racket", segmentation=[POLYGON, [1.0, 1.0, 2.0, 2.0]]),
        _annotation(17, 7, "car", segmentation=[[1.0, 1.0, 2.0, 2.0]]),
    ]
    categories = [{"id": number, "name": name, "supercategory": "x"} for name, number in COCO_IDS.items()]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    tree = _tree()
    for image in tree["images"]:
        Image.new("RGB", (WIDTH, HEIGHT), (image["id"], 0, 0)).save(tmp_path / "train2017" / image["file_name"])
    (tmp_path / JSON).write_text(json.dumps(tree))
    return tmp_path


def test_images_become_stills_with_the_classes_of_the_videos(root: Path) -> None:
    dataset = load_coco(root, JSON, VIS, MAP)
    assert dataset.is_still
    assert dataset.categories == VIS
    found = [(v.id, len(v), [(t.id, VIS[t.label].name, t.iscrowd) for t in v.tracks]) for v in dataset.videos]
    assert found == [
        (9, 1, [(11, "sedan", False), (14, "motorbike", True)]),
        (7, 1, [(13, "motorbike", False), (16, "Tennis_Racket", False)]),
    ], "without toasters, crowds only, images without annotations and outlines of two points"
    assert dataset.read_frame(dataset.videos[0], 0)[0, 0, 0] in (9, 10)  # a JPEG
    assert [video.id for video in dataset.only([7]).videos] == [7]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_those_of_pycocotools(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = _tree()
    rng = np.random.default_rng(0)
    for annotation in tree["annotations"][:3]:
        shape = (rng.random((7, 2)) * [WIDTH, HEIGHT]).round(2).ravel().tolist()
        annotation |= {"segmentation": [shape, POLYGON], "category_id": COCO_IDS["car"]}
    (root / JSON).write_text(json.dumps(tree))
    official = COCO(str(root / JSON))
    tracks = [track for video in load_coco(root, JSON, VIS, MAP).videos for track in video.tracks]
    assert len(tracks) == 5
    for track in tracks:
        np.testing.assert_array_equal(track.mask(0), official.annToMask(official.anns[track.id]))


def test_training_clips_repeat_the_image(root: Path) -> None:
    config = DataConfig(root=str(root), frames=3, short_side=(HEIGHT,), max_size=WIDTH, flip=0)
    batch = TrainClips(load_coco(root, JSON, VIS, MAP), config, batch_size=2, seed=0).batch(0)
    assert batch.images.shape[:2] == (2, 3)
    assert all((target.masks[:, 0] == target.masks[:, 2]).all() for target in batch.targets)
    assert sorted(len(target.labels) for target in batch.targets) == [1, 2], "no crowds"


VIS_NAMES = {
    "ytvis_2019": {"sedan", "tennis_racket", "hand", "person", "giant_panda"},
    "ytvis_2021": {"car", "bird", "flying_disc", "whale"},
    "ovis": {"Vehical", "Sheep", "Poultry", "Giant_panda"},
}


@pytest.mark.parametrize("name", COCO_NAMES)
def test_the_table_follows_from_the_classes(name: str) -> None:
    table = COCO_NAMES[name]
    assert names_for(VIS_NAMES[name] | set(table.values())) is table
    assert {plain(n) for n in table.values()} >= {plain("person"), plain("elephant")}


def test_sizes_and_peculiarities_of_the_tables() -> None:
    assert {name: len(table) for name, table in COCO_NAMES.items()} == {"ytvis_2019": 21, "ytvis_2021": 23, "ovis": 17}
    assert [table.get("car") for table in COCO_NAMES.values()] == ["sedan", "car", "Vehical"]
    assert [table.get("bus") for table in COCO_NAMES.values()] == [None, None, "Vehical"]
    assert [table.get("skis") for table in COCO_NAMES.values()] == ["snowboard", "snowboard", None]
    assert [table.get("bird") for table in COCO_NAMES.values()] == [None, "bird", None]


def test_other_classes_are_taken_by_equal_names(root: Path) -> None:
    own = (Category(5, "Toaster"), Category(6, "dragon"), Category(9, "tennis_racket"))
    dataset = load_coco(root, JSON, own)
    assert [[(t.id, t.label) for t in v.tracks] for v in dataset.videos] == [[(12, 0)], [(16, 2)]]


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        for step in path[:-1]:
            tree = tree[step]
        tree[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("images", to=None), "images: is null, not a list"),
        (_set("images", 0, "file_name", to="../x.jpg"), "images[0].file_name: '../x.jpg' leaves the folder"),
        (_set("images", 1, "id", to=9), "images: the id 9 occurs twice"),
        (_set("images", 1, "width", to=10**7), "images[1]: size 10 x 10000000"),
        (_set("annotations", 0, "image_id", to=1), "annotations[0].image_id: 1 is not the id of one of the images"),
        (
            _set("annotations", 0, "category_id", to=5),
            "annotations[0].category_id: 5 is not the id of one of the categ",
        ),
        (_set("annotations", 1, "category_id", to="1"), "annotations[1].category_id: is text"),
        (_set("annotations", 0, "id", to=13), "annotations: the id 13 occurs twice"),
        (
            _set("annotations", 0, "segmentation", to=[[99.0] * 6]),
            "annotations[0].segmentation: a point is 89 pixels outside the frame of 10 x 20",
        ),
        (_set("annotations", 3, "segmentation", "counts", to=[5]), "annotations[3].segmentation: damaged mask"),
        (
            _set("annotations", 3, "segmentation", "size", to=[20, 10]),
            "annotations[3].segmentation.size: the mask is 20 x 10, its",
        ),
        (_set("annotations", to=[]), "annotations: no image shows an instance of the wanted classes"),
        (_set("categories", to=[{"id": 1, "name": "cup"}]), "categories: no class is one of"),
    ],
)
def test_faults_are_named(root: Path, change: Callable[[Any], None], expected: str) -> None:
    tree = _tree()
    change(tree)
    (root / JSON).write_text(json.dumps(tree))
    with pytest.raises(DataError) as caught:
        load_coco(root, JSON, VIS, MAP)
    assert str(caught.value).startswith(f"{root / JSON}: {expected}")
    assert ". Fix: " in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos (SYNCVIS_REAL_VIS) are not here")
def test_frames_of_real_videos_as_stills(tmp_path: Path) -> None:
    """Every frame of a real split as a COCO image gives the masks that its video has there."""
    videos = VideoDataset.load(REAL, "valid.json")
    images, annotations = [], []
    for video in videos.videos:
        for t, name in enumerate(video.file_names[:5]):
            images.append({"id": len(images), "height": video.height, "width": video.width, "file_name": name})
            for track in video.tracks:
                common = {"id": len(annotations), "image_id": images[-1]["id"], "segmentation": track.segmentations[t]}
                annotations.append(common | {"category_id": videos.categories[track.label].id})
    categories = [{"id": category.id, "name": category.name} for category in videos.categories]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "JPEGImages").symlink_to(REAL / "JPEGImages")
    (tmp_path / "stills.json").write_text(json.dumps(tree))
    stills = load_coco(tmp_path, "stills.json", videos.categories)
    for still, (video, t) in zip(stills.videos, [(v, t) for v in videos.videos for t in range(5)], strict=True):
        assert (stills.read_frame(still, 0) == videos.read_frame(video, t)).all()
        for one, many in zip(still.tracks, video.tracks, strict=True):
            assert one.label == many.label
            assert (one.mask(0) == many.mask(t)).all()
