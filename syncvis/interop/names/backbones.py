"""Published names of backbones -> ours.

Sources: detectron2 (tools/convert-torchvision-to-d2.py, checkpoint/c2_model_loading.py), Swin-Transformer and
Mask2Former (modeling/backbone/swin.py).
"""

from __future__ import annotations

from syncvis.interop.names.naming import Naming

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
