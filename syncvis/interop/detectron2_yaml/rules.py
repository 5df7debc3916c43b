"""Keys whose meaning depends on other keys, or is more than another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncvis.config import parse_overrides
from syncvis.interop.detectron2_yaml.files import flatten
from syncvis.interop.detectron2_yaml.joint import as_videos, ratio, rotation, train_split
from syncvis.interop.detectron2_yaml.report import Outcome, Values
from syncvis.interop.splits import SPLITS

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SWIN_NAMES = {
    (96, (2, 2, 6, 2)): "swin_t",
    (96, (2, 2, 18, 2)): "swin_s",
    (128, (2, 2, 18, 2)): "swin_b",
    (192, (2, 2, 18, 2)): "swin_l",
}


def mapped(**settings: Any) -> Outcome:
    """Our keys, with ``__`` for the dot."""
    return Outcome("mapped", {key.replace("__", "."): value for key, value in settings.items()})


def _fixed_if(condition: bool, otherwise: str) -> Outcome:
    return Outcome("fixed") if condition else Outcome("unsupported", note=otherwise)


def _decoder_layers(values: Values) -> Outcome:
    """Mask2Former counts the predictions of the initial queries as a layer."""
    return mapped(model__decoder__layers=values["MODEL.MASK_FORMER.DEC_LAYERS"] - 1)


def _pixel_decoder_width(values: Values) -> Outcome:
    same = values["MODEL.SEM_SEG_HEAD.CONVS_DIM"] == values["MODEL.MASK_FORMER.HIDDEN_DIM"]
    return _fixed_if(same, "pixel decoder and decoder have one width, MODEL.MASK_FORMER.HIDDEN_DIM")


def _res2_channels(values: Values) -> Outcome:
    expansion = 4 if values["MODEL.RESNETS.DEPTH"] >= 50 else 1
    expected = expansion * values["MODEL.RESNETS.STEM_OUT_CHANNELS"]
    return _fixed_if(values["MODEL.RESNETS.RES2_OUT_CHANNELS"] == expected, f"it is {expected} for this ResNet")


def _group_width(values: Values) -> Outcome:
    expected = values["MODEL.RESNETS.STEM_OUT_CHANNELS"]
    return _fixed_if(values["MODEL.RESNETS.WIDTH_PER_GROUP"] == expected, f"it is {expected} for this ResNet")


def _swin_size(values: Values) -> Outcome:
    """The name is only a label: all numbers of the network are given."""
    dim = values["MODEL.SWIN.EMBED_DIM"]
    name = SWIN_NAMES.get((dim, values["MODEL.SWIN.DEPTHS"]), "swin_t")
    return mapped(model__backbone__name=name, model__backbone__dim=dim)


def _statistics(key: str, rgb: tuple[float, ...]) -> Callable[[Values], Outcome]:
    def rule(values: Values) -> Outcome:
        expected = rgb if values["INPUT.FORMAT"] == "RGB" else rgb[::-1]
        return _fixed_if(values[key] == expected, f"images are normalised with {expected}")

    return rule


def _weights(values: Values) -> Outcome:
    path = values["MODEL.WEIGHTS"]
    if not path or path.endswith(".safetensors"):
        return mapped(train__init=path or None)
    return Outcome("dropped", note="import it with syncvis weights import, then set train.init")


def _seed(values: Values) -> Outcome:
    if values["SEED"] < 0:
        return Outcome("dropped", note="a run always has a seed")
    return mapped(seed=values["SEED"])


def _warmup(values: Values) -> Outcome:
    """A factor of 1 is no warm-up; ours starts near 0."""
    factor = values["SOLVER.WARMUP_FACTOR"]
    if factor == 1:
        return mapped(train__warmup=0)
    if factor <= 0.001:
        return mapped(train__warmup=values["SOLVER.WARMUP_ITERS"])
    return Outcome("unsupported", note="warm-up starts near 0 (SOLVER.WARMUP_FACTOR at most 0.001) or is off (1.0)")


def _warmup_factor(values: Values) -> Outcome:
    return Outcome("dropped", note="read with SOLVER.WARMUP_ITERS")


def _short_sides(values: Values) -> Outcome:
    sides = values["INPUT.MIN_SIZE_TRAIN"]
    return mapped(data__short_side=sides if isinstance(sides, tuple) else (sides,))


def _crop(values: Values) -> Outcome:
    """Short sides and probability are constants of syncvis/data/augmentation.py."""
    if not values["INPUT.CROP.ENABLED"]:
        return mapped(data__crop=None)
    if values["MODEL.META_ARCHITECTURE"] == "VideoMaskFormer":
        return Outcome("unsupported", note="a clip is cropped with one window, not each frame with its own")
    return mapped(data__crop__probability=0.5, data__crop__short_side=(400, 500, 600))


def _test_split(values: Values) -> Outcome:
    names, train = values["DATASETS.TEST"], values["DATASETS.TRAIN"]
    folders = {SPLITS[name][0] for name in train if name in SPLITS}
    if len(names) != 1 or names[0] not in SPLITS or SPLITS[names[0]][0] not in folders:
        return Outcome("unsupported", note="name one split of the data set that is trained on")
    note = "public validation sets have no labels: to train, name a split with labels in data.valid"
    return Outcome("mapped", {"data.valid": SPLITS[names[0]][1]}, note if not names[0].endswith("train") else "")


def _overrides(values: Values) -> Outcome:
    """Our own settings in a detectron2 config, as ``key=value``."""
    return Outcome("mapped", flatten(parse_overrides(values["MODEL.SYNCVIS.OVERRIDES"])))


PSEUDO_AS_VIDEOS = (
    "INPUT.PSEUDO.MIN_SIZE_TRAIN",
    "INPUT.PSEUDO.MIN_SIZE_TRAIN_SAMPLING",
    "INPUT.PSEUDO.MAX_SIZE_TRAIN",
    "INPUT.PSEUDO.CROP.ENABLED",
)

RULES: dict[str, Callable[[Values], Outcome]] = {
    "MODEL.MASK_FORMER.DEC_LAYERS": _decoder_layers,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": _pixel_decoder_width,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _res2_channels,
    "MODEL.RESNETS.WIDTH_PER_GROUP": _group_width,
    "MODEL.SWIN.EMBED_DIM": _swin_size,
    "MODEL.PIXEL_MEAN": _statistics("MODEL.PIXEL_MEAN", IMAGENET_MEAN),
    "MODEL.PIXEL_STD": _statistics("MODEL.PIXEL_STD", IMAGENET_STD),
    "MODEL.WEIGHTS": _weights,
    "SEED": _seed,
    "SOLVER.WARMUP_ITERS": _warmup,
    "SOLVER.WARMUP_FACTOR": _warmup_factor,
    "INPUT.MIN_SIZE_TRAIN": _short_sides,
    "INPUT.CROP.ENABLED": _crop,
    "DATASETS.TRAIN": train_split,
    "DATASETS.DATASET_RATIO": ratio,
    "INPUT.PSEUDO.AUGMENTATIONS": rotation,
    **{key: as_videos(key) for key in PSEUDO_AS_VIDEOS},
    "DATASETS.TEST": _test_split,
    "MODEL.SYNCVIS.OVERRIDES": _overrides,
}
"""Key -> what all values together make of it."""
