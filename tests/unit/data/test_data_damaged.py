"""Damaged images, video files and annotation files: each is read or refused as a DataError of one line.

SYNCVIS_FUZZ multiplies the number of cases.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from syncvis.data.coco import load_coco
from syncvis.data.frames import FrameReader
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

TIMES = int(os.environ.get("SYNCVIS_FUZZ", "1"))
HEIGHT, WIDTH = 24, 32
FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "GIF": "gif"}


def _outcome(read: Callable[[], Any]) -> str:
    """``read``, or ``refused`` with a DataError that tells the user what to do."""
    try:
        read()
    except DataError as error:
        text = str(error)
        assert "Fix: " in text
        assert "\n" not in text
        assert len(text) < 2000
        return "refused"
    return "read"


def _image(rng: random.Random, kind: str) -> bytes:
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def _damage(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    match rng.randrange(6):
        case 0:
            del damaged[rng.randrange(len(damaged)) :]
        case 1:
            for _ in range(rng.choice((1, 3, 30))):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        case 2:  # the header decides most
            damaged[rng.randrange(min(64, len(damaged)))] = rng.randrange(256)
        case 3:
            start = rng.randrange(len(damaged))
            damaged[start : start + 50] = bytes(len(damaged[start : start + 50]))
        case 4:
            start = rng.randrange(len(damaged))
            damaged[start:start] = rng.randbytes(rng.randrange(1, 40))
        case 5:
            damaged[4 : 4 + rng.randrange(20)] = rng.randbytes(20)
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore")
def test_damaged_images(tmp_path: Path) -> None:
    rng, seen = random.Random(0), Counter[str]()
    for n in range(200 * TIMES):
        kind = rng.choice(list(FORMATS))
        suffix = FORMATS[kind] if n % 3 else rng.choice(list(FORMATS.values()))
        path = tmp_path / f"{n}.{suffix}"
        path.write_bytes(_damage(rng, _image(rng, kind)))
        reader = FrameReader(tmp_path)

        def read(reader: FrameReader = reader, name: str = path.name) -> None:
            frame = reader.read(name, HEIGHT, WIDTH)
            assert frame.shape == (HEIGHT, WIDTH, 3)
            assert frame.dtype == np.uint8

        seen[_outcome(read)] += 1
        path.unlink()
    assert min(seen["read"], seen["refused"]) > 20, seen


def test_a_header_that_claims_a_huge_picture(tmp_path: Path) -> None:
    """Nothing of that size is allocated: the header is compared with the video first."""
    content = bytearray(_image(random.Random(0), "PNG"))
    for sides in ((2**31 - 1, 2**31 - 1), (60_000, 60_000), (9_000, 9_000)):
        content[16:24] = b"".join(side.to_bytes(4, "big") for side in sides)
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.png: the frame is"):
            FrameReader(tmp_path).read("a.png", HEIGHT, WIDTH)


def test_frames_outside_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    (root / "v").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(_image(random.Random(0), "PNG"))
    (root / "v" / "good.png").write_bytes(_image(random.Random(0), "PNG"))
    (root / "file.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "inside.png").symlink_to("v/good.png")
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    (tmp_path / "linked").symlink_to(root)
    for folder in (root, tmp_path / "linked"):
        reader = FrameReader(folder)
        assert reader.read("inside.png", HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
        for name in ("file.png", "folder/secret.png", "../secret.png", str(tmp_path / "secret.png")):
            with pytest.raises(DataError, match="leads out of the folder"):
                reader.read(name, HEIGHT, WIDTH)
        for name in ("pipe.png", "loop.png", "v", "x" * 5000, "a\0b", "\ud800"):
            with pytest.raises(DataError, match=r"the frame (is not a file|cannot be read|is missing)"):
                reader.read(name, HEIGHT, WIDTH)


def test_one_frame_in_two_videos_of_different_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_image(random.Random(0), "PNG"))
    reader = FrameReader(tmp_path)
    reader.read("a.png", HEIGHT, WIDTH)
    with pytest.raises(DataError, match="the frame is 24 x 32 pixels, its video 32 x 24"):
        reader.read("a.png", WIDTH, HEIGHT)


WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3.5,
    1e308,
    2**31,
    2**63,
    10**30,
    -(2**70),
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "../..",
    "/etc/passwd",
    "C:\\x",
    "a\0b",
    "\ud800",
    "v/0.png\n",
    [],
    {},
    [[]],
    [None],
    [1, 2],
    {"size": [24, 32]},
    {"id": 1},
    {"size": [24, 32], "counts": [768]},
    {"size": [24, 32], "counts": "\u00e9"},
    {"size": [24, 32], "counts": "o" * 99},
    {"size": [2**40, 2**40], "counts": "0"},
    [[1, 2, 3, 4, 5, 6]],
    [[1e9, 2, 3, 4, 5, 6]],
    [[0, 0, 0, 0, 0, 0]],
    ["a"] * 300,
]


def _place(rng: random.Random, tree: Any) -> tuple[Any, Any]:
    """A container somewhere in the tree and one of its keys; deep places are as likely as high ones."""
    parent, key = tree, rng.choice(list(tree))
    while isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.8:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    return parent, key


def _mutate(rng: random.Random, tree: Any) -> None:
    if not tree:
        return
    parent, key = _place(rng, tree)
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("id", "name", "size", "x", "file_name", "video_id"))] = parent.pop(key)
        case 2:
            other, name = _place(rng, tree)
            parent[key] = copy.deepcopy(other[name])
        case 3 if isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        case 4 if type(parent[key]) in (int, float):
            parent[key] = rng.choice((-parent[key], parent[key] * 10**9, str(parent[key]), parent[key] + 1))
        case _:
            parent[key] = copy.deepcopy(rng.choice(WRONG))


def _damaged_text(rng: random.Random, tree: Any) -> bytes:
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _mutate(rng, tree)
    text = json.dumps(tree).encode("utf-8", "surrogatepass")
    return _damage(rng, text) if not rng.randrange(8) and len(text) > 4 else text


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "JPEGImages" / "v").mkdir(parents=True)
    for t in range(2):
        (folder / "JPEGImages" / "v" / f"{t}.png").write_bytes(_image(random.Random(t), "PNG"))
    return folder


def _segmentations() -> list[Any]:
    box = np.zeros((HEIGHT, WIDTH), bool)
    box[3:9, 4:20] = True
    counts = [int(n) for n in rle.runs(rle.encode(box), "test")]
    polygons = [[4, 3, 20, 3.5, 20, 9, 4, 9], [1.0, 1.0, 3.0, 1.0, 3.0, 4.0]]
    return [rle.encode(box), {"size": [HEIGHT, WIDTH], "counts": counts}, polygons, None]


def _vis_tree() -> dict[str, Any]:
    names = ["v/0.png", "v/1.png"]
    first, second, third, absent = _segmentations()
    common = {"height": HEIGHT, "width": WIDTH, "length": 2, "license": 1}
    track = {"iscrowd": 0, "areas": [96, None], "bboxes": [[4, 3, 16, 6], None], "category_id": 3}
    return {
        "info": {"year": 2021},
        "videos": [{"id": n, "file_names": names} | common for n in (1, 2)],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": 1, "video_id": 1, "segmentations": [first, second]} | track,
            {"id": 2, "video_id": 2, "segmentations": [third, absent]} | track,
        ],
    }


def _coco_tree() -> dict[str, Any]:
    images = [{"id": n, "height": HEIGHT, "width": WIDTH, "file_name": f"v/{n}.png"} for n in (0, 1)]
    annotations = [
        {"id": n, "image_id": n % 2, "category_id": 3, "iscrowd": int(n == 1), "segmentation": segmentation}
        for n, segmentation in enumerate(_segmentations())
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}


def _load_vis(root: Path) -> VideoDataset:
    return VideoDataset.load(root, "damaged.json")


def _load_coco(root: Path) -> VideoDataset:
    return load_coco(root, "damaged.json", [Category(1, "cat")])


def _use(root: Path, load: Callable[[Path], VideoDataset]) -> Counter[str]:
    """How loading went, and then reading the last frame of each video and every mask."""
    loaded: list[VideoDataset] = []
    seen = Counter([_outcome(lambda: loaded.append(load(root)))])
    for dataset in loaded:
        for video in dataset.videos:
            seen[_outcome(partial(dataset.read_frame, video, len(video) - 1))] += 1
            seen.update(_outcome(partial(track.mask, t)) for track in video.tracks for t in range(len(video)))
    return seen


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("tree", "load"), [(_vis_tree(), _load_vis), (_coco_tree(), _load_coco)])
def test_damaged_annotation_files(root: Path, tree: dict[str, Any], load: Callable[[Path], VideoDataset]) -> None:
    (root / "damaged.json").write_text(json.dumps(tree))
    assert set(_use(root, load)) == {"read"}
    rng, seen = random.Random(0), Counter[str]()
    for _ in range(250 * TIMES):
        (root / "damaged.json").write_bytes(_damaged_text(rng, tree))
        seen.update(_use(root, load))
    assert min(seen["read"], seen["refused"]) > 40, seen
