"""A made-up miniature of the published data sets and weights: their layouts, class counts and names, small videos.

Names of classes are those by which COCO's are found, the others are made up.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import official_skeleton as official
import torch
from PIL import Image

from syncvis.config import ResNetConfig, RunConfig, SwinConfig, VITASettings
from syncvis.data.coco_names import COCO_NAMES
from syncvis.data.synthetic import Scene, SyntheticConfig, draw_scene
from syncvis.ops import masks as rle

CLASSES = {"ytvis_2019": 40, "ytvis_2021": 40, "ytvis_2022": 40, "ovis": 25}
COCO_CLASSES = 80
SCENES = SyntheticConfig(height=96, width=160, frames=10, categories=6, objects=(2, 3))
RESNET_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def write_miniature(data: Path, names: Collection[str] = ("ytvis_2019", "ovis"), videos: int = 20) -> None:
    """Write the training videos of these data sets, and COCO, each as its publisher lays it out below ``data``."""
    for name in names:
        _write_videos(data / name, name, videos)
    _write_coco(data / "coco", 2 * videos)


def names_of_classes(data_set: str) -> list[str]:
    """As many as the published data set has; those of COCO's table come first."""
    table = COCO_NAMES["ytvis_2021" if data_set == "ytvis_2022" else data_set]
    return _filled(list(dict.fromkeys(table.values())), CLASSES[data_set])


def _filled(names: list[str], number: int) -> list[str]:
    return [*names, *(f"made up {n}" for n in range(number - len(names)))]


def _write_videos(root: Path, data_set: str, videos: int) -> None:
    """YouTube-VIS: train.json, train/JPEGImages/<video>/<frame>.jpg; OVIS: annotations_train.json, train/<video>/."""
    is_ovis = data_set == "ovis"
    frames = root / "train" if is_ovis else root / "train" / "JPEGImages"
    names, tree = names_of_classes(data_set), dict[str, Any](videos=[], annotations=[])
    tree["categories"] = [{"id": n, "name": name, "supercategory": "object"} for n, name in enumerate(names, 1)]
    for number, scene in _scenes(videos, SCENES.frames, seed=len(names) + len(data_set)):
        files = [f"{number:010x}/{f'img_{t + 1:07d}' if is_ovis else f'{5 * t:05d}'}.jpg" for t in range(SCENES.frames)]
        _write_frames(frames, files, scene)
        size = {"height": SCENES.height, "width": SCENES.width, "length": SCENES.frames}
        tree["videos"].append({"id": number, **size, "file_names": files})
        for masks in scene.masks:
            place = len(tree["annotations"])
            segmentations = [rle.encode(mask) if mask.any() else None for mask in masks]
            annotation = {"id": place + 1, "video_id": number, "category_id": place % len(names) + 1, "iscrowd": 0}
            boxes = [None if s is None else [float(x) for x in rle.bbox(s)] for s in segmentations]
            areas = [None if s is None else rle.area(s) for s in segmentations]
            annotation |= size | {"segmentations": segmentations, "bboxes": boxes, "areas": areas}
            tree["annotations"].append(annotation)
    (root / ("annotations_train.json" if is_ovis else "train.json")).write_text(json.dumps(tree))


def _write_coco(root: Path, images: int) -> None:
    """train2017/<image>.jpg and annotations/instances_train2017.json."""
    names = _filled(sorted({name for table in COCO_NAMES.values() for name in table}), COCO_CLASSES)
    tree = dict[str, Any](images=[], annotations=[])
    tree["categories"] = [{"id": n, "name": name, "supercategory": "object"} for n, name in enumerate(names, 1)]
    for number, scene in _scenes(images, 1, seed=COCO_CLASSES):
        name = f"{number:012d}.jpg"
        _write_frames(root / "train2017", [name], scene)
        tree["images"].append({"id": number, "height": SCENES.height, "width": SCENES.width, "file_name": name})
        for (mask,) in scene.masks:
            place, runs = len(tree["annotations"]), rle.encode(mask)
            annotation = {"id": place + 1, "image_id": number, "category_id": place % len(names) + 1, "iscrowd": 0}
            bbox = [float(x) for x in rle.bbox(runs)]
            tree["annotations"].append(annotation | {"segmentation": runs, "bbox": bbox, "area": rle.area(runs)})
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(tree))


def _scenes(number: int, length: int, seed: int) -> Iterator[tuple[int, Scene]]:
    """Numbered from 1."""
    drawn = (draw_scene(SCENES, length, np.random.default_rng((seed, n))) for n in count())
    return enumerate(islice((scene for scene in drawn if scene.labels), number), 1)


def _write_frames(folder: Path, names: list[str], scene: Scene) -> None:
    for name, frame in zip(names, scene.frames, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(folder / name, quality=85)


def write_weights(file: Path, config: RunConfig) -> Path:
    """COCO's model, of 80 classes, under its publisher's names: VITA's, or Mask2Former's, of the sizes of a config.

    A ``.pkl`` holds arrays, as detectron2 writes them, anything else tensors; the numbers are of untrained layers.
    """
    torch.manual_seed(0)
    backbone = config.model.backbone
    sizes = sizes_of(config)
    swin = official.swin(sizes=sizes) if isinstance(backbone, SwinConfig) else None
    make = official.vita_model if isinstance(config.method, VITASettings) else official.mask2former_model
    state = make(COCO_CLASSES, backbone=swin, sizes=sizes).state_dict()
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".pkl":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "__author__": "third_party", "matching_heuristics": True}))
    else:
        torch.save({"model": state}, file)
    return file


def sizes_of(config: RunConfig) -> official.Sizes:
    """What the skeletons of published models need to know of a config."""
    model, method = config.model, config.method
    sizes: dict[str, Any] = {
        "dim": model.hidden_dim,
        "mask_dim": model.mask_dim,
        "ffn": model.decoder.ffn_dim,
        "encoder_ffn": model.pixel_decoder.ffn_dim,
        "queries": model.decoder.frame_queries,
        "encoder_layers": model.pixel_decoder.layers,
        "decoder_layers": model.decoder.layers,
        "heads": model.pixel_decoder.heads,
        "points": model.pixel_decoder.points,
    }
    if isinstance(model.backbone, ResNetConfig):
        sizes |= {"width": model.backbone.width, "depths": RESNET_DEPTHS[model.backbone.name]}
    if isinstance(model.backbone, SwinConfig):
        sizes["swin"] = {name: getattr(model.backbone, name) for name in ("dim", "depths", "heads", "window")}
    if isinstance(method, VITASettings):
        sizes |= {"clip_queries": method.clip_queries, "clip_ffn": method.ffn_dim}
        sizes |= {"temporal_encoder_layers": method.encoder_layers, "clip_layers": method.decoder_layers}
    return official.Sizes(**sizes)
