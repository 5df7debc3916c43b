"""The smallest data set: one video of three frames of 4 x 6 pixels, one track of a square."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from PIL import Image

SQUARE: dict[str, Any] = {"size": [4, 6], "counts": [5, 2, 2, 2, 13]}
"""Rows and columns 1 and 2."""
COMPRESSED: dict[str, Any] = {"size": [4, 6], "counts": "5220;"}
POLYGON = [[1, 1, 3, 1, 3, 3, 1, 3]]
_BOX = [1, 1, 2, 2]


def tiny_tree() -> dict[str, Any]:
    video = {"id": 1, "width": 6, "height": 4, "length": 3, "file_names": [f"v1/{t}.jpg" for t in range(3)]}
    track = {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": [SQUARE, SQUARE, None]}
    measures = {"bboxes": [_BOX, _BOX, None], "areas": [4, 4, None]}
    return copy.deepcopy(
        {"videos": [video], "categories": [{"id": 1, "name": "cat"}], "annotations": [track | measures]}
    )


def with_mask(mask: Any, **changes: Any) -> dict[str, Any]:
    """With another mask in the first frame."""
    tree = tiny_tree()
    tree["annotations"][0]["segmentations"][0] = mask
    tree["annotations"][0].update(changes)
    return tree


def cocovid_tree() -> dict[str, Any]:
    """The same as tracks of single images."""
    images = [
        {"id": 10 + t, "video_id": 1, "frame_id": t, "file_name": f"v1/{t}.jpg", "width": 6, "height": 4}
        for t in range(2)
    ]
    track = {"category_id": 1, "instance_id": 5, "bbox": _BOX, "area": 4, "iscrowd": 0, "segmentation": SQUARE}
    annotations = [{"id": 1 + t, "image_id": 10 + t} | track for t in range(2)]
    tree = {"videos": [{"id": 1, "name": "v1"}], "images": images, "categories": [{"id": 1, "name": "cat"}]}
    return copy.deepcopy(tree | {"annotations": annotations})


def cvat_tree() -> dict[str, Any]:
    """The same without videos: only the annotations name tracks."""
    tree = cocovid_tree()
    del tree["videos"]
    for image in tree["images"]:
        del image["video_id"], image["frame_id"]
    for annotation in tree["annotations"]:
        annotation["attributes"] = {"track_id": annotation.pop("instance_id")}
    return tree


def write_tiny(root: Path, tree: Any, frames: int = 3) -> Path:
    """Write the JSON and its frames."""
    (root / "JPEGImages" / "v1").mkdir(parents=True, exist_ok=True)
    for t in range(frames):
        Image.new("RGB", (6, 4)).save(root / "JPEGImages" / "v1" / f"{t}.jpg")
    source = root / "gt.json"
    source.write_text(json.dumps(tree))
    return source
