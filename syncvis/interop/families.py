"""Weights of other libraries, which are not read here: known by names that no file read here has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from syncvis.errors import StorageError

_ZOO = "take the .pkl of the publisher's model zoo"
_PUBLISHED = "take the .pth of its publisher (Swin: Microsoft's repository, ResNet: torchvision)"
_BACKBONE = "give a ResNet or a Swin, or a Mask2Former with one of them"
_TRANSFORMERS = "of the transformers library, which is not read"


@dataclass(frozen=True)
class Foreign:
    """A family of names.

    Attributes:
        title: to stand behind "is".
        marker: found in a name of the family.
        fix: what to take instead.
    """

    title: str
    marker: str
    fix: str


FAMILIES = (
    Foreign(f"OneFormer {_TRANSFORMERS}", r"(^|\.)task_encoder\.", _ZOO),
    Foreign(
        f"MaskFormer {_TRANSFORMERS}", r"(^|\.)transformer_module\.decoder\.layers\.\d+\.encoder_attn\.k_proj\.", _ZOO
    ),
    Foreign(f"Mask2Former {_TRANSFORMERS}", r"(^|\.)(pixel_level_module|transformer_module)\.", _ZOO),
    Foreign(f"a DETR {_TRANSFORMERS}", r"(^|\.)conv_encoder\.", _ZOO),
    Foreign(f"a Swin {_TRANSFORMERS}", r"\.blocks\.\d+\.attention\.self\.(query|relative_position)", _PUBLISHED),
    Foreign(f"a ResNet {_TRANSFORMERS}", r"(^|\.)embedder\.embedder\.convolution\.", _PUBLISHED),
    Foreign(
        "an R-CNN or another detector of torchvision or detectron2, which is no Mask2Former",
        r"(^|\.)(roi_heads|proposal_generator|rpn|fpn)\.|(^|\.)(fpn_lateral|fpn_output)\d|(^|\.)backbone\.body\.",
        f"{_ZOO} of Mask2Former, or a backbone alone",
    ),
    Foreign(
        "a model of MMDetection, MMSegmentation or a relative, which is not read",
        r"(^|\.)(bbox_head|decode_head|auxiliary_head|panoptic_head|panoptic_fusion_head|rpn_head|roi_head|track_head"
        r"|mask_head|neck)\.|\.attn\.w_msa\.",
        f"{_ZOO} (Mask2Former); for a backbone, {_PUBLISHED}",
    ),
    Foreign("a segmentation network of torchvision, which is not read", r"(^|\.)aux_classifier\.", _BACKBONE),
    Foreign("a DETR or a relative, which is no Mask2Former", r"(^|\.)backbone\.0\.(body|0)\.", _BACKBONE),
    Foreign("MaskFormer, which is no Mask2Former", r"(^|\.)sem_seg_head\.predictor\.transformer\.", _ZOO),
    Foreign("a Swin of timm 0.9 or newer, which is not read", r"(^|\.)layers\.3\.downsample\.", _PUBLISHED),
    Foreign("a ConvNeXt, which is not read", r"(^|\.)(dwconv|conv_dw|downsample_layers\.\d\.\d)\.", _BACKBONE),
    Foreign("SAM or a relative, which is no Mask2Former", r"(^|\.)(image_encoder|mask_decoder)\.", _BACKBONE),
    Foreign("a vision transformer, which is not read", r"(^|\.)cls_token$", _BACKBONE),
    Foreign(
        "a file of this workbench, which needs no import",
        r"(^|\.)(decoder\.(query_sets?|stacks)|backbone\.(stages|merges))\.",
        "name the model.safetensors of the run in train.init",
    ),
)
"""The first whose marker is found counts."""


def refuse_foreign(names: Iterable[str], file: object = None) -> None:
    """Raises StorageError if names are of a family that is not read."""
    names = list(names)
    for family in FAMILIES:
        marker = re.compile(family.marker)
        if any(marker.search(name) for name in names):
            raise StorageError(f"is {family.title}", file=None if file is None else str(file), fix=family.fix)
