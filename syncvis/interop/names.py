"""Published names -> our names, as data.

A table of rules is applied from top to bottom: each replaces what its pattern matches. The left column is what stands
in the files, the right column is ours. What a file holds besides is listed too, with the reason why it is not taken.

Sources: detectron2 (tools/convert-torchvision-to-d2.py, checkpoint/c2_model_loading.py), Swin-Transformer and
Mask2Former (modeling/backbone/swin.py, pixel_decoder/msdeformattn.py, transformer_decoder/), SyncVIS (syncvis_model.py,
modeling/transformer_decoder/), VITA (vita_model.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Rules = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Naming:
    """How one family of files names a part of the model.

    Attributes:
        title: what the family is called in messages.
        marker: found in a name of this family and in no other family's.
        prefix: of our names.
        rules: (pattern, replacement), applied in order.
        skipped: (pattern, reason) of names that are left out on purpose.
        unused: (pattern, what it is) of names that belong to parts which our model does not have.
    """

    title: str
    marker: str
    prefix: str
    rules: Rules
    skipped: Rules = ()
    unused: Rules = ()


COUNTER = (r"\.num_batches_tracked$", "count of live batch norms, starts anew")
COMPUTED = (r"\.(relative_position_index|attn_mask)$", "computed from the window size")

TORCHVISION_RESNET = Naming(
    title="torchvision ResNet",
    marker=r"^layer\d\.",
    prefix="backbone.",
    rules=(
        (r"^conv1\.", "stem."),
        (r"^bn1\.", "stem.norm."),
        (r"^layer1\.", "stages.0."),
        (r"^layer2\.", "stages.1."),
        (r"^layer3\.", "stages.2."),
        (r"^layer4\.", "stages.3."),
        (r"\.bn([123])\.", r".conv\1.norm."),
        (r"\.downsample\.0\.", ".downsample."),
        (r"\.downsample\.1\.", ".downsample.norm."),
    ),
    skipped=((r"^fc\.", "class head of ImageNet"), COUNTER),
)

DETECTRON2_RESNET = Naming(
    title="detectron2 ResNet",
    marker=r"^res\d\.",
    prefix="backbone.",
    rules=(
        (r"^stem\.conv1\.", "stem."),
        (r"^res2\.", "stages.0."),
        (r"^res3\.", "stages.1."),
        (r"^res4\.", "stages.2."),
        (r"^res5\.", "stages.3."),
        (r"\.shortcut\.", ".downsample."),
    ),
    skipped=((r"^(stem\.fc|linear)\.", "class head of ImageNet"), COUNTER),
)

CAFFE2_RESNET = Naming(
    title="MSRA ResNet in Caffe2 names",
    marker=r"^res\d_\d+_branch",
    prefix="backbone.",
    rules=(
        (r"^conv1_w$", "stem.weight"),
        (r"^res_conv1_bn_", "stem_bn_"),
        (r"^res2_(\d+)_", r"stages.0.\1."),
        (r"^res3_(\d+)_", r"stages.1.\1."),
        (r"^res4_(\d+)_", r"stages.2.\1."),
        (r"^res5_(\d+)_", r"stages.3.\1."),
        (r"\.branch1_", ".downsample_"),
        (r"\.branch2a_", ".conv1_"),
        (r"\.branch2b_", ".conv2_"),
        (r"\.branch2c_", ".conv3_"),
        (r"_w$", ".weight"),
        (r"_bn_gamma$", ".norm.weight"),
        (r"_bn_beta$", ".norm.bias"),
        (r"_bn_running_(mean|var)$", r".norm.running_\1"),
    ),
    skipped=(
        (r"^fc1000_", "class head of ImageNet"),
        (r"^conv1_b$", "bias in front of a norm, which detectron2 leaves out too"),
        (r"_momentum$", "state of the optimizer"),
    ),
)

TORCHVISION_SWIN = Naming(
    title="torchvision Swin",
    marker=r"^features\.\d\.",
    prefix="backbone.",
    rules=(
        (r"^features\.0\.", "patch_embed."),
        (r"^features\.1\.", "stages.0."),
        (r"^features\.2\.", "merges.0."),
        (r"^features\.3\.", "stages.1."),
        (r"^features\.4\.", "merges.1."),
        (r"^features\.5\.", "stages.2."),
        (r"^features\.6\.", "merges.2."),
        (r"^features\.7\.", "stages.3."),
    ),
    skipped=((r"^head\.", "class head of ImageNet"), (r"^norm\.", "norm in front of that class head"), COMPUTED),
)

MICROSOFT_SWIN = Naming(
    title="Swin in Microsoft's names",
    marker=r"^layers\.\d\.",
    prefix="backbone.",
    rules=(
        (r"^patch_embed\.proj\.", "patch_embed.0."),
        (r"^patch_embed\.norm\.", "patch_embed.2."),
        (r"^layers\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
        (r"^layers\.(\d)\.downsample\.", r"merges.\1."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
        (r"^norm([0-3])\.", r"norms.\1."),
    ),
    skipped=((r"^head\.", "class head of ImageNet"), (r"^norm\.", "norm in front of that class head"), COMPUTED),
)

BACKBONES = (TORCHVISION_RESNET, DETECTRON2_RESNET, CAFFE2_RESNET, TORCHVISION_SWIN, MICROSOFT_SWIN)

_LAYERS = "decoder.stacks.0.layers."
_HEADS = "decoder.stacks.0.heads."

MASK2FORMER = Naming(
    title="Mask2Former",
    marker=r"^sem_seg_head\.",
    prefix="",
    rules=(
        # Files older than version 2 of the head.
        (r"^sem_seg_head\.(?!pixel_decoder\.|predictor\.)", "sem_seg_head.pixel_decoder."),
        (r"\.static_query\.", ".query_feat."),
        # Pixel decoder.
        (r"^sem_seg_head\.pixel_decoder\.", "pixel_decoder."),
        (r"^pixel_decoder\.transformer\.level_embed$", "pixel_decoder.level_embed"),
        (r"^pixel_decoder\.transformer\.encoder\.", "pixel_decoder."),
        (r"^pixel_decoder\.layers\.(\d+)\.self_attn\.", r"pixel_decoder.layers.\1.attention."),
        (r"^pixel_decoder\.layers\.(\d+)\.norm1\.", r"pixel_decoder.layers.\1.norm."),
        (r"^pixel_decoder\.layers\.(\d+)\.linear([12])\.", r"pixel_decoder.layers.\1.ffn.linear\2."),
        (r"^pixel_decoder\.layers\.(\d+)\.norm2\.", r"pixel_decoder.layers.\1.ffn.norm."),
        (r"^pixel_decoder\.adapter_1\.weight$", "pixel_decoder.lateral.0.weight"),
        (r"^pixel_decoder\.adapter_1\.norm\.", "pixel_decoder.lateral.1."),
        (r"^pixel_decoder\.layer_1\.weight$", "pixel_decoder.smooth.0.weight"),
        (r"^pixel_decoder\.layer_1\.norm\.", "pixel_decoder.smooth.1."),
        # Query decoder.
        (r"^sem_seg_head\.predictor\.", "decoder."),
        (r"^decoder\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.", rf"{_LAYERS}\1.cross_attention."),
        (r"^decoder\.transformer_cross_attention_layers\.(\d+)\.norm\.", rf"{_LAYERS}\1.cross_norm."),
        (r"^decoder\.transformer_self_attention_layers\.(\d+)\.self_attn\.", rf"{_LAYERS}\1.self_attention."),
        (r"^decoder\.transformer_self_attention_layers\.(\d+)\.norm\.", rf"{_LAYERS}\1.self_norm."),
        (r"^decoder\.transformer_ffn_layers\.(\d+)\.", rf"{_LAYERS}\1.ffn."),
        (r"_attention\.out_proj\.", "_attention.output."),
        (r"^decoder\.level_embed\.", "decoder.stacks.0.level_embed."),
        (r"^decoder\.decoder_norm\.", f"{_HEADS}norm."),
        (r"^decoder\.class_embed\.", f"{_HEADS}class_embed."),
        (r"^decoder\.mask_embed\.layers\.0\.", f"{_HEADS}mask_embed.0."),
        (r"^decoder\.mask_embed\.layers\.1\.", f"{_HEADS}mask_embed.2."),
        (r"^decoder\.mask_embed\.layers\.2\.", f"{_HEADS}mask_embed.4."),
        # Queries. The released SyncVIS numbers those of its video level 1.
        (r"^decoder\.query_feat\.", "decoder.query_sets.frame.content."),
        (r"^decoder\.query_embed\.", "decoder.query_sets.frame.position."),
        (r"^decoder\.query_feat1\.", "decoder.query_sets.video.content."),
        (r"^decoder\.query_embed1\.", "decoder.query_sets.video.position."),
    ),
    skipped=(
        (r"^(\w+_)?criterion\.empty_weight$", "class weights of the loss, which the config gives"),
        (r"^pixel_(mean|std)$", "constants of the model"),
    ),
    unused=(
        (r"^(vita|vfi|syncvis)_module\.", "VITA's second stage"),
        (r"^sem_seg_head\.predictor\.multi_attn\.", "exchange of the released SyncVIS, one for both directions"),
        (r"^sem_seg_head\.predictor\.FFN_[123]\.", "feed-forward parts of the released SyncVIS' exchange"),
        (r"^sem_seg_head\.predictor\.query_feat[2-5]\.", "queries that the released SyncVIS never reads"),
    ),
)

PACKED = {"in_proj_weight": "weight", "in_proj_bias": "bias"}
"""torch's packed attention: the rows of query, key and value one after another."""

PACKED_ORDER = ("query", "key", "value")


def reason_for(name: str, table: Rules) -> str | None:
    """What a table says of a name; None if nothing."""
    return next((reason for pattern, reason in table if re.search(pattern, name)), None)
