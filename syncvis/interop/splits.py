"""Names of the public data sets in detectron2, and where they lie below $DETECTRON2_DATASETS.

The layout is that of Mask2Former-VIS (mask2former_video/data_video/datasets/builtin.py): ``ytvis_2019/train.json``
with the frames in ``ytvis_2019/train/JPEGImages``; OVIS and YouTube-VIS 2022 are laid out alike.
"""

from __future__ import annotations

import os
from pathlib import Path

SPLITS: dict[str, tuple[str, str]] = {
    f"{folder}_{split}": (folder, f"{file}.json")
    for folder in ("ytvis_2019", "ytvis_2021", "ytvis_2022", "ovis")
    for split, file in (("train", "train"), ("val", "valid"), ("test", "test"))
}
"""Name -> folder and JSON file inside it."""

COCO = ("coco", "annotations/instances_train2017.json")
"""The same of COCO (detectron2/data/datasets/builtin.py)."""


def datasets_root() -> Path:
    """$DETECTRON2_DATASETS, or ``datasets`` in the working directory, as detectron2 has it."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
