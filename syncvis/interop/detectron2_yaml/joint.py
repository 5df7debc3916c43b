"""Keys of joint training: data sets of still images beside the one of videos, whose images become moving clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncvis.interop.detectron2_yaml.report import Outcome, Values
from syncvis.interop.splits import COCO, SPLITS, datasets_root


def train_split(values: Values) -> Outcome:
    """One data set of videos, and COCO with the classes of that one."""
    names = values["DATASETS.TRAIN"]
    videos, stills = [n for n in names if not n.startswith("coco")], _stills(values)
    if len(videos) != 1 or videos[0] not in SPLITS or len(stills) > 1:
        return Outcome("unsupported", note=f"name one of {', '.join(SPLITS)}, and at most one of COCO")
    folder, file = SPLITS[videos[0]]
    settings: dict[str, Any] = {"data.root": str(datasets_root() / folder), "data.train": file}
    if not stills:
        return Outcome("mapped", settings)
    ratios = dict(zip(names, values.get("DATASETS.DATASET_RATIO") or (1.0, 1.0), strict=True))
    settings |= {
        "data.ratio": ratios[videos[0]],
        "data.pseudo": {"rotation": 15.0},
        "data.mix": [_coco(ratios[stills[0]])],
    }
    return Outcome("mapped", settings, f"{stills[0]} is COCO's own file here, with the classes found by name")


def _stills(values: Values) -> list[str]:
    return [name for name in values["DATASETS.TRAIN"] if name.startswith("coco")]


def _coco(ratio: float) -> dict[str, Any]:
    folder, file = COCO
    return {"root": str(datasets_root() / folder), "train": file, "format": "coco", "ratio": ratio, "pseudo": True}


def ratio(values: Values) -> Outcome:
    return Outcome("dropped", note="read with DATASETS.TRAIN")


def rotation(values: Values) -> Outcome:
    if not _stills(values):
        return Outcome("dropped", note=_NO_STILLS)
    if values["INPUT.PSEUDO.AUGMENTATIONS"] == ("rotation",):
        return Outcome("fixed")
    return Outcome("unsupported", note="still images are rotated, and nothing else")


def as_videos(key: str) -> Callable[[Values], Outcome]:
    """A key of still images that has to have the value of videos."""
    videos = key.replace("PSEUDO.", "")

    def rule(values: Values) -> Outcome:
        if not _stills(values):
            return Outcome("dropped", note=_NO_STILLS)
        if values[key] == values.get(videos):
            return Outcome("fixed")
        return Outcome("unsupported", note=f"still images are treated as videos are: give it the value of {videos}")

    return rule


_NO_STILLS = "there are no still images among DATASETS.TRAIN"
