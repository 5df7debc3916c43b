"""From a video dict to what the model reads: a training clip, or all frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from syncvis.data.sampling import sample_frames
from syncvis.ops import masks


class VideoMapper:
    """A mapper for detectron2's data loaders; Mask2Former-VIS' own mapper serves as well.

    Args:
        training: sample a clip and give its instances; else give all frames.
        augmentations: drawn once per clip, from its first frame.
        image_format: order of the channels, "RGB" or "BGR".
        frames: T, frames per training clip.
        frame_range: largest distance of a clip's frames from its reference frame.
    """

    @configurable
    def __init__(
        self,
        training: bool,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        frames: int,
        frame_range: int,
    ) -> None:
        self.training, self.augmentations = training, T.AugmentationList(augmentations)
        self.image_format, self.frames, self.frame_range = image_format, frames, frame_range

    @classmethod
    def from_config(cls, cfg: CfgNode, training: bool) -> dict[str, Any]:
        """Arguments from INPUT: sizes, RANDOM_FLIP (none or half of the clips), CROP, FORMAT and SAMPLING_FRAME_*."""
        return {
            "training": training,
            "augmentations": _augmentations(cfg.INPUT, training),
            "image_format": cfg.INPUT.FORMAT,
            "frames": cfg.INPUT.SAMPLING_FRAME_NUM,
            "frame_range": cfg.INPUT.SAMPLING_FRAME_RANGE,
        }

    def __call__(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """The video dict with "image", T tensors (3, H, W) uint8, and in training "instances", T Instances."""
        chosen = self._choose(video["length"])
        names = [video["file_names"][t] for t in chosen]
        images = [detection_utils.read_image(name, format=self.image_format) for name in names]
        transform = self.augmentations(T.AugInput(images[0]))
        mapped = {key: value for key, value in video.items() if key != "annotations"}
        mapped |= {"file_names": names, "image": [_tensor(transform.apply_image(image)) for image in images]}
        if self.training:
            height, width = mapped["image"][0].shape[-2:]
            annotations = [video["annotations"][t] for t in chosen]
            mapped["instances"] = _instances(annotations, transform, (height, width))
        return mapped

    def _choose(self, length: int) -> tuple[int, ...]:
        if not self.training:
            return tuple(range(length))
        seed = int(torch.randint(2**31, ()))  # torch's generator differs between loader processes
        return sample_frames(length, self.frames, self.frame_range, np.random.default_rng(seed))


def _augmentations(config: CfgNode, training: bool) -> list[T.Augmentation]:
    if not training:
        return [T.ResizeShortestEdge(config.MIN_SIZE_TEST, config.MAX_SIZE_TEST)]
    crop = [T.RandomCrop(config.CROP.TYPE, config.CROP.SIZE)] if config.CROP.ENABLED else []
    flip = [T.RandomFlip()] if config.RANDOM_FLIP != "none" else []
    return [*crop, T.ResizeShortestEdge(config.MIN_SIZE_TRAIN, config.MAX_SIZE_TRAIN, "choice"), *flip]


def _tensor(image: Any) -> Tensor:
    """(H, W, 3) -> (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _instances(
    frames: Sequence[Sequence[Mapping[str, Any]]], transform: T.Transform, size: tuple[int, int]
) -> list[Instances]:
    """The same instances in every frame, crowds left out; gt_ids is -1 where one has no pixel."""
    labels = {a["id"]: a["category_id"] for frame in frames for a in frame if not a["iscrowd"]}
    return [_frame_instances(frame, labels, transform, size) for frame in frames]


def _frame_instances(
    annotations: Sequence[Mapping[str, Any]], labels: Mapping[int, int], transform: T.Transform, size: tuple[int, int]
) -> Instances:
    rles = {a["id"]: a["segmentation"] for a in annotations}
    bitmaps = np.zeros((len(labels), *size), bool)
    for g, track_id in enumerate(labels):
        if track_id in rles:
            height, width = rles[track_id]["size"]
            mask = masks.decode(rles[track_id], height, width, f"instance {track_id}")
            bitmaps[g] = transform.apply_segmentation(mask.astype(np.uint8))
    instances = Instances(size)
    instances.gt_masks = BitMasks(torch.from_numpy(bitmaps))
    instances.gt_classes = torch.tensor(list(labels.values()), dtype=torch.int64)
    shown = torch.from_numpy(bitmaps.any((1, 2)))
    instances.gt_ids = torch.where(shown, torch.tensor(list(labels), dtype=torch.int64), -1)
    return instances
