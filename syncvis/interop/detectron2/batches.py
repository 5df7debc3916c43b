"""Videos as detectron2's mappers give them -> our clip batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks
from numpy.typing import NDArray
from pycocotools import mask as coco
from torch import Tensor

from syncvis.data.loader import pad_images
from syncvis.errors import DataError
from syncvis.ops.masks import decode
from syncvis.structures import ClipBatch, ClipTarget, unfold

SIZE_DIVISOR = 32


def clip_batch(videos: Sequence[Mapping[str, Any]], image_format: str, device: torch.device) -> ClipBatch:
    """The frames of some videos, without targets.

    Args:
        videos: each with "image", T frames (3, H, W) of 0 .. 255; all videos have the same T.
        image_format: order of their channels, "RGB" or "BGR".

    Raises:
        DataError: The videos have different numbers of frames.
    """
    lengths = {len(video["image"]) for video in videos}
    if len(lengths) != 1:
        raise DataError(
            f"clips of {sorted(lengths)} frames in one batch", file="batch", fix="give all clips one length"
        )
    frames = [_frame(frame, image_format, device)[None] for video in videos for frame in video["image"]]
    images, valid = pad_images(frames, SIZE_DIVISOR)
    num_frames = lengths.pop()
    return ClipBatch(unfold(images[:, 0], num_frames), unfold(valid[:, 0], num_frames))


def _frame(frame: Tensor, image_format: str, device: torch.device) -> Tensor:
    scaled = frame.to(device, torch.float32) / 255
    return scaled if image_format == "RGB" else scaled.flip(0)


def clip_target(instances: Sequence[Instances], height: int, width: int, num_classes: int) -> ClipTarget:
    """The instances of one clip, without those that no frame shows.

    An instance has the class it has in the first frame that shows it: where it is absent (gt_ids -1), mappers fill in
    whatever they like.

    Args:
        instances: T frames with the same G instances in the same order: gt_ids, gt_classes, gt_masks.
        height, width: of the padded batch.

    Raises:
        DataError: The frames have different numbers of instances, or a visible one has a class that is none of
            0 .. K-1.
    """
    if len({len(frame) for frame in instances}) > 1:
        fix = "list every instance in every frame, with gt_ids -1 where it is absent"
        raise DataError("the frames of a clip list different instances", file="batch", key="instances", fix=fix)
    masks = torch.stack([_masks(frame, height, width) for frame in instances], 1)
    ids = torch.stack([frame.gt_ids for frame in instances], 1).to(masks.device)
    classes = torch.stack([frame.gt_classes for frame in instances], 1).to(masks.device)
    masks &= (ids != -1)[..., None, None]
    present = masks.flatten(2).any(-1)
    shown = present.any(1)
    first = present[shown].int().argmax(1, keepdim=True)
    labels = classes[shown].gather(1, first)[:, 0]
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        fix = "set MODEL.SEM_SEG_HEAD.NUM_CLASSES to the number of classes of the data set"
        found = f"class {int(wrong[0])} where there are {num_classes} classes"
        raise DataError(found, file="batch", key="gt_classes", fix=fix)
    return ClipTarget(labels, ids[shown].gather(1, first)[:, 0], masks[shown])


def _masks(frame: Instances, height: int, width: int) -> Tensor:
    """(G, height, width) bool on the CPU, False in the padding."""
    masks = torch.zeros(len(frame), height, width, dtype=torch.bool)
    if len(frame):
        inside = frame.image_size
        masks[:, : inside[0], : inside[1]] = _bitmaps(frame.gt_masks, *inside)
    return masks


def _bitmaps(masks: BitMasks | PolygonMasks | Tensor, height: int, width: int) -> Tensor:
    if isinstance(masks, PolygonMasks):
        return torch.stack([_rasterise(polygons, height, width) for polygons in masks.polygons])
    tensor = masks.tensor if isinstance(masks, BitMasks) else masks
    return tensor.bool().cpu()


def _rasterise(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> Tensor:
    """Polygons of one instance -> (height, width) bool."""
    rles = coco.frPyObjects([polygon.tolist() for polygon in polygons], height, width)
    return torch.from_numpy(decode(coco.merge(rles), height, width, "batch"))
