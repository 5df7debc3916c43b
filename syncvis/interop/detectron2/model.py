"""The meta-architecture ``SyncVIS``: takes what Mask2Former-VIS' mappers give, returns what its evaluators read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from syncvis.config import EvalConfig
from syncvis.errors import DataError
from syncvis.interop.detectron2.batches import clip_batch, clip_target
from syncvis.interop.detectron2.config import run_config
from syncvis.methods import build
from syncvis.methods.base import Method
from syncvis.ops import masks
from syncvis.structures import Track
from syncvis.training.inference import predict_video


@META_ARCH_REGISTRY.register()
class SyncVIS(nn.Module):
    """A method of ours behind the interface of ``VideoMaskFormer`` (mask2former_video/video_maskformer_model.py).

    Args:
        method: the model; its parameters are named ``method.backbone...``, ``method.decoder...``.
        num_classes: K.
        eval_config: which tracks a video gets.
        image_format: order of the channels that the mapper gives, "RGB" or "BGR".
    """

    @configurable
    def __init__(self, *, method: Method, num_classes: int, eval_config: EvalConfig, image_format: str) -> None:
        super().__init__()
        self.method, self.num_classes = method, num_classes
        self.eval_config, self.image_format = eval_config, image_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Arguments from a detectron2 config with the keys of ``add_syncvis_config``.

        Raises:
            ConfigError: With all keys whose value our model cannot have.
        """
        config, num_classes = run_config(cfg), cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        return {
            "method": build(config, num_classes),
            "num_classes": num_classes,
            "eval_config": config.eval,
            "image_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        return next(self.method.parameters()).device

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """In training named, weighted losses; else the tracks of one video.

        Args:
            batched_inputs: per video "image", T frames (3, H, W) of 0 .. 255; in training "instances", T Instances
                with gt_classes, gt_ids (-1 where absent) and gt_masks; else "height", "width", "video_id".

        Returns:
            In training {name: scalar}. Else "image_size" (height, width), "pred_scores" and "pred_labels", lists of
            numbers, and "pred_masks", a list of (T, height, width) bool tensors on the CPU.

        Raises:
            DataError: The clips differ in length, the instances do not fit together, or inference is asked for
                several videos.
        """
        return self._losses(batched_inputs) if self.training else self._tracks(batched_inputs)

    def _losses(self, videos: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = clip_batch(videos, self.image_format, self.device)
        height, width = batch.images.shape[-2:]
        targets = [clip_target(video["instances"], height, width, self.num_classes) for video in videos]
        return self.method.losses(replace(batch, targets=tuple(t.to(self.device) for t in targets)))

    def _tracks(self, videos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if len(videos) != 1:
            raise DataError(f"{len(videos)} videos in one batch", file="batch", fix="give one video at a time")
        video = videos[0]
        batch = clip_batch(videos, self.image_format, self.device)
        resized = (video["image"][0].shape[-2], video["image"][0].shape[-1])
        original = (video.get("height", resized[0]), video.get("width", resized[1]))
        video_id = video.get("video_id", 0)
        tracks = predict_video(self.method, batch, resized, original, video_id, self.eval_config).tracks
        return {
            "image_size": original,
            "pred_scores": [track.score for track in tracks],
            "pred_labels": [track.label for track in tracks],
            "pred_masks": [_decode(track, *original) for track in tracks],
        }


def _decode(track: Track, height: int, width: int) -> Tensor:
    """(T, height, width) bool."""
    empty = np.zeros((height, width), bool)
    frames = [empty if rle is None else masks.decode(rle, height, width, "prediction") for rle in track.masks]
    return torch.from_numpy(np.stack(frames))
