"""Weights of other libraries are named, with what to take instead."""

from __future__ import annotations

import official_skeleton as official
import pytest
import torch

from syncvis.errors import StorageError
from syncvis.interop.families import FAMILIES, refuse_foreign
from syncvis.interop.stored import as_stored

NAMES = {
    "Mask2Former of the transformers library, which is not read": (
        "model.pixel_level_module.encoder.embeddings.patch_embeddings.projection.weight",
        "class_predictor.weight",
    ),
    "MaskFormer of the transformers library": (
        "model.pixel_level_module.decoder.fpn.stem.0.weight",
        "model.transformer_module.decoder.layers.0.encoder_attn.k_proj.weight",
    ),
    "OneFormer of the transformers library": ("model.task_encoder.task_mlp.layers.0.0.weight",),
    "a Swin of the transformers library": ("swin.encoder.layers.0.blocks.0.attention.self.query.weight",),
    "a ResNet of the transformers library": ("resnet.embedder.embedder.convolution.weight",),
    "a DETR of the transformers library": ("model.backbone.conv_encoder.model.conv1.weight",),
    "a model of MMDetection, MMSegmentation or a relative": (
        "backbone.layer1.0.conv1.weight",
        "bbox_head.fc_cls.weight",
    ),
    "a model of MMDetection, MMSegmentation": ("backbone.layer1.0.conv1.weight", "decode_head.conv_seg.weight"),
    "a model of MMDetection": ("backbone.stages.0.blocks.0.attn.w_msa.qkv.weight",),
    "an R-CNN or another detector of torchvision": (
        "backbone.body.layer1.0.conv1.weight",
        "roi_heads.box_predictor.cls_score.weight",
    ),
    "an R-CNN or another detector": (
        "backbone.bottom_up.res2.0.conv1.weight",
        "proposal_generator.rpn_head.conv.weight",
    ),
    "a segmentation network of torchvision": ("backbone.layer1.0.conv1.weight", "aux_classifier.4.weight"),
    "a DETR or a relative": ("transformer.encoder.layers.0.linear1.weight", "backbone.0.body.layer1.0.conv1.weight"),
    "MaskFormer, which is no Mask2Former": ("sem_seg_head.predictor.transformer.decoder.norm.weight",),
    "a Swin of timm 0.9": ("layers.0.blocks.0.attn.qkv.weight", "layers.3.downsample.norm.weight"),
    "a ConvNeXt": ("stages.0.0.dwconv.weight", "downsample_layers.0.0.weight"),
    "SAM or a relative": ("image_encoder.patch_embed.proj.weight", "mask_decoder.iou_token.weight"),
    "a vision transformer": ("cls_token", "blocks.0.attn.qkv.weight"),
    "a file of this workbench, which needs no import": ("decoder.query_sets.video.content.weight",),
}


@pytest.mark.parametrize("title", NAMES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_family_is_named(title: str, prefix: str) -> None:
    state = {prefix + name: torch.zeros(2) for name in NAMES[title]}
    with pytest.raises(StorageError, match=rf"x\.pth: is {title}.* Fix: ") as error:
        as_stored({"state_dict": state}, "x.pth")
    assert "\n" not in str(error.value)


def test_every_family_has_an_example() -> None:
    found = []
    for names in NAMES.values():
        with pytest.raises(StorageError) as error:
            refuse_foreign(names)
        found.append(error.value.problem.removeprefix("is "))
    assert {family.title for family in FAMILIES} == set(found)


@pytest.mark.parametrize(
    "names",
    [
        official.mask2former(),
        official.mask2former(backbone=official.swin()),
        official.released_syncvis(),
        official.released_syncvis("vita"),
        official.random_state(official.swin(output_norms=False)),
    ],
    ids=range(5),
)
def test_what_is_read_is_of_no_such_family(names: dict[str, torch.Tensor]) -> None:
    refuse_foreign(names)
    refuse_foreign(f"model.module.{name}" for name in names)
