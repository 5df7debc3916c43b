"""Backbones from every family of files: same features as the network they come from, every name accounted for."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import official_skeleton as official
import pytest
import torch
import torchvision
from helpers import tiny_config
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from syncvis.config import RunConfig
from syncvis.errors import StorageError
from syncvis.interop.checkpoints import Converted, Misfit, convert
from syncvis.interop.stored import read_stored
from syncvis.methods import build
from syncvis.methods.masked import PIXEL_STD
from syncvis.models.resnet import ResNet
from syncvis.models.swin import Swin

State = dict[str, Tensor]


def _own(backbone: nn.Module) -> State:
    return {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}


def _loaded(backbone: nn.Module, converted: Converted) -> nn.Module:
    backbone.load_state_dict({name.removeprefix("backbone."): x for name, x in converted.tensors.items()})
    return backbone.eval()


def _assert_accounted(stored: State, converted: Converted, state: State) -> None:
    keys = [*set(converted.loaded.values()), *converted.skipped, *converted.unused]
    assert sorted(keys) == sorted(stored)
    missing = state.keys() - converted.loaded.keys() - converted.fresh.keys()
    assert all(name.endswith(("relative_position_index", "num_batches_tracked")) for name in missing)


@pytest.fixture(scope="module")
def torchvision_resnet() -> nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.resnet50().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1)
    return network


def _detectron2_names(state: State) -> State:
    """As detectron2's conversion script renames torchvision's network."""
    pairs = [(rf"layer{i}", f"res{i + 1}") for i in range(1, 5)] + [(r"bn(\d)", r"conv\1.norm")]
    pairs += [(r"downsample\.0", "shortcut"), (r"downsample\.1", "shortcut.norm")]
    renamed = {}
    for name, tensor in state.items():
        new = name if name.startswith("layer") else f"stem.{name}"
        for pattern, replacement in pairs:
            new = re.sub(pattern, replacement, new)
        renamed[new] = tensor
    return renamed


def _caffe2_names(state: State) -> State:
    """The names of the files that MSRA trained, for an input of blue, green, red in 0..255."""
    ends = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    renamed = {"conv1_b": torch.zeros(64)}
    for name, tensor in _detectron2_names(state).items():
        part, _, last = name.rpartition(".")
        end = f"bn_{ends[last]}" if part.endswith(".norm") and last in ends else last[0]
        part = part.removesuffix(".norm").replace("stem.conv1", "res_conv1" if "bn" in end else "conv1")
        part = part.replace("stem.fc", "fc1000").replace("shortcut", "branch1").replace(".", "_")
        part = re.sub(r"(?<=_)conv([123])$", lambda m: f"branch2{'abc'[int(m[1]) - 1]}", part)
        part = part.replace("res_branch2a", "res_conv1")
        if last != "num_batches_tracked":
            renamed[f"{part}_{end}"] = tensor
    scale = torch.tensor(PIXEL_STD)[:, None, None]
    renamed["conv1_w"] = (renamed["conv1_w"] / scale).flip(1)
    return renamed


RESNETS: dict[str, tuple[Callable[[State], State], str, int]] = {
    "torchvision": (dict, "torchvision ResNet", 2 + 53),
    "detectron2": (_detectron2_names, "detectron2 ResNet", 2 + 53),
    "Caffe2": (_caffe2_names, "MSRA ResNet in Caffe2 names", 2 + 1),
}


@pytest.fixture(scope="module")
def resnet50() -> ResNet:
    return ResNet("resnet50")


@pytest.mark.parametrize("naming", RESNETS)
def test_a_resnet_keeps_its_features(torchvision_resnet: nn.Module, resnet50: ResNet, naming: str) -> None:
    rename, kind, skipped = RESNETS[naming]
    stored = rename(torchvision_resnet.state_dict())
    backbone = resnet50
    converted = convert(stored, _own(backbone))
    assert converted.kind == kind
    assert len(converted.skipped) == skipped
    assert not converted.fresh
    assert bool(converted.notes) == (naming == "Caffe2")
    _assert_accounted(stored, converted, _own(backbone))

    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        maps = _loaded(backbone, converted)(images)
        x = torchvision_resnet.maxpool(
            torchvision_resnet.relu(torchvision_resnet.bn1(torchvision_resnet.conv1(images)))
        )
        for i, found in enumerate(maps, 1):
            x = getattr(torchvision_resnet, f"layer{i}")(x)
            torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4 * float(x.abs().max()))


def test_a_file_of_the_model_zoo(tmp_path: Path) -> None:
    stored = official.random_state(official.resnet())
    arrays = {name: tensor.numpy() for name, tensor in stored.items()}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision", "matching_heuristics": True}, 2))
    converted = convert(read_stored(path).tensors, _own(ResNet("resnet50", official.WIDTH)))
    assert torch.equal(converted.tensors["backbone.stages.1.0.downsample.weight"], stored["res3.0.shortcut.weight"])


def test_a_resnet_with_live_norms_counts_batches_anew(torchvision_resnet: nn.Module) -> None:
    backbone = ResNet("resnet50", norm="batch")
    converted = convert(torchvision_resnet.state_dict(), _own(backbone))
    counters = [name for name in converted.tensors if name.endswith("num_batches_tracked")]
    assert len(counters) == 53
    _loaded(backbone, converted)


def test_the_other_resnets() -> None:
    """ResNet-18 has blocks of two convolutions, ResNet-101 blocks with numbers of two digits."""
    stored = torchvision.models.resnet18().state_dict()
    converted = convert(stored, _own(ResNet("resnet18")))
    _assert_accounted(stored, converted, _own(ResNet("resnet18")))
    assert torch.equal(converted.tensors["backbone.stages.3.1.conv2.weight"], stored["layer4.1.conv2.weight"])
    stored = official.random_state(official.resnet(8, (3, 4, 23, 3)))
    converted = convert(stored, _own(ResNet("resnet101", 8)))
    assert torch.equal(converted.tensors["backbone.stages.2.22.conv3.weight"], stored["res4.22.conv3.weight"])


def _torchvision_swin() -> SwinTransformer:
    torch.manual_seed(0)
    size = official.SWIN
    window = [size["window"]] * 2
    return SwinTransformer(
        [4, 4], size["dim"], list(size["depths"]), list(size["heads"]), window, num_classes=10
    ).eval()


def _microsoft_names(state: State) -> State:
    pairs = [(r"^features\.0\.0\.", "patch_embed.proj."), (r"^features\.0\.2\.", "patch_embed.norm.")]
    pairs += [(rf"^features\.{2 * i + 1}\.", f"layers.{i}.blocks.") for i in range(4)]
    pairs += [(rf"^features\.{2 * i + 2}\.", f"layers.{i}.downsample.") for i in range(3)]
    pairs += [(r"mlp\.0\.", "mlp.fc1."), (r"mlp\.3\.", "mlp.fc2.")]
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _with_masks(state: State) -> State:
    """Microsoft's files hold the masks of shifted windows, and the index as a square."""
    cells = official.SWIN["window"] ** 2
    square = {k: v.view(cells, cells) for k, v in state.items() if k.endswith("relative_position_index")}
    return {**state, **square, "layers.1.blocks.1.attn_mask": torch.zeros(4, cells, cells)}


SWINS: dict[str, tuple[Callable[[State], State], str]] = {
    "torchvision": (dict, "torchvision Swin"),
    "Microsoft": (lambda state: _with_masks(_microsoft_names(state)), "Swin in Microsoft's names"),
    "converted for Mask2Former": (
        lambda state: {f"backbone.{name}": x for name, x in _microsoft_names(state).items()},
        "Swin in Microsoft's names",
    ),
}


@pytest.mark.parametrize("naming", SWINS)
def test_a_swin_keeps_its_features(naming: str) -> None:
    network, (rename, kind) = _torchvision_swin(), SWINS[naming]
    stored = rename(network.state_dict())
    backbone = Swin(**official.SWIN)
    converted = convert(stored, _own(backbone))
    assert converted.kind == kind
    assert sorted(converted.fresh) == sorted(f"backbone.norms.{i}.{x}" for i in range(4) for x in ("weight", "bias"))
    _assert_accounted(stored, converted, _own(backbone))

    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, x = _loaded(backbone, converted)(images), images
        for i, part in enumerate(network.features):
            x = part(x)
            if i % 2:
                expected = nn.functional.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2)
                torch.testing.assert_close(maps[i // 2], expected, rtol=1e-4, atol=1e-5)


def test_swin_of_published_files_with_its_skeleton() -> None:
    """Mask2Former's norms on the outputs are taken; an ImageNet file's last norm and head are not."""
    whole = official.random_state(official.swin())
    converted = convert(whole, _own(Swin(**official.SWIN)))
    assert not converted.fresh
    assert torch.equal(converted.tensors["backbone.norms.2.weight"], whole["norm2.weight"])
    assert torch.equal(
        converted.tensors["backbone.merges.1.reduction.weight"], whole["layers.1.downsample.reduction.weight"]
    )
    assert torch.equal(converted.tensors["backbone.stages.2.1.norm2.bias"], whole["layers.2.blocks.1.norm2.bias"])

    del whole["norm1.bias"]
    with pytest.raises(Misfit, match=r"tensors that the file lacks \(1\): backbone\.norms\.1\.bias"):
        convert(whole, _own(Swin(**official.SWIN)))

    imagenet = official.random_state(official.swin(output_norms=False))
    assert {"norm.weight", "norm.bias", "head.weight", "head.bias"} <= convert(
        imagenet, _own(Swin(**official.SWIN))
    ).skipped.keys()


def _model_config(backbone: dict[str, object]) -> RunConfig:
    return tiny_config({"model.backbone": backbone})


def test_a_backbone_in_a_model_leaves_the_rest_fresh() -> None:
    stored = official.random_state(official.resnet())
    state = build(_model_config({"name": "resnet50", "width": official.WIDTH}), 3).state_dict()
    converted = convert(stored, state)
    assert converted.tensors.keys() == converted.loaded.keys() == {n for n in state if n.startswith("backbone.")}
    assert converted.fresh.keys() == state.keys() - converted.loaded.keys()
    reasons = {reason for name, reason in converted.fresh.items() if not name.startswith("decoder.sync.")}
    assert reasons == {"the file is a backbone alone"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "resnet50"}, "the file holds a resnet50 with width 8, the config says a resnet50"),
        ({"name": "resnet101", "width": 8}, "the config says a resnet101 with width 8"),
        ({"name": "swin_t"}, "the file holds a resnet50 with width 8, the config says a swin_t"),
        ({"name": "tiny"}, "the file holds a resnet50 with width 8, the config says another backbone"),
    ],
    ids=str,
)
def test_another_backbone_is_named_in_words(config: dict[str, object], words: str) -> None:
    stored = official.random_state(official.resnet())
    with pytest.raises(StorageError, match=words) as error:
        convert(stored, build(_model_config(config), 3).state_dict(), "R-50.pkl")
    assert str(error.value).startswith("R-50.pkl: does not fit the model")
    assert "\n" not in str(error.value)


def test_a_swin_of_another_window() -> None:
    stored = official.random_state(official.swin())
    other = _own(Swin(**official.SWIN | {"window": 3}))
    with pytest.raises(StorageError, match=r"a swin_t with dim 12, .*window 2, the config says .*window 3"):
        convert(stored, other)


def test_all_that_is_wrong_is_listed() -> None:
    stored = official.random_state(official.resnet())
    del stored["res3.1.conv2.weight"], stored["res5.2.conv3.norm.running_var"]
    stored["res2.0.conv1.weight"] = torch.zeros(8, 8, 3, 3)
    stored |= {"res4.0.conv4.weight": torch.zeros(1), "stem.extra": torch.zeros(1)}
    with pytest.raises(Misfit) as error:
        convert(stored, _own(ResNet("resnet50", official.WIDTH)))
    text = str(error.value)
    assert "names that the model has no place for (2): res4.0.conv4.weight, stem.extra" in text
    assert "backbone.stages.1.1.conv2.weight, backbone.stages.3.2.conv3.norm.running_var" in text
    assert "res2.0.conv1.weight (8, 8, 3, 3) for backbone.stages.0.0.conv1.weight (8, 8, 1, 1)" in text
    assert len(error.value.listing.splitlines()) == 5


def test_a_long_list_ends_in_a_number_and_is_whole_elsewhere() -> None:
    stored = official.random_state(official.resnet()) | {f"extra{i}": torch.zeros(1) for i in range(100)}
    with pytest.raises(Misfit, match="extra19 and 80 more") as error:
        convert(stored, _own(ResNet("resnet50", official.WIDTH)))
    assert sum("extra" in line for line in error.value.listing.splitlines()) == 100


def test_a_file_of_no_known_kind() -> None:
    with pytest.raises(StorageError, match=r"x\.pth: is no file of a known kind; its first names are encoder\.weight"):
        convert({"encoder.weight": torch.zeros(1)}, {}, "x.pth")
