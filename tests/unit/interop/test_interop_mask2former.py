"""Mask2Former, Mask2Former-VIS, VITA and SyncVIS files: each name goes where its numbers are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import official_skeleton as official
import pytest
import torch
from helpers import tiny_config
from torch import Tensor, nn

from syncvis.errors import StorageError
from syncvis.interop.checkpoints import Misfit, convert
from syncvis.interop.names import FAMILIES
from syncvis.interop.names.mask2former import model_entries
from syncvis.interop.names.naming import Family
from syncvis.interop.names.sizes import Sizes
from syncvis.interop.official import from_official
from syncvis.interop.stored import as_stored
from syncvis.methods import build
from syncvis.models.attention import Attention
from syncvis.models.swin import Swin
from syncvis.structures import Level

State = dict[str, Tensor]

PIXEL, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
STACK = "decoder.stacks.0."

MEANING = {
    "backbone.stem.conv1.weight": "backbone.stem.weight",
    "backbone.stem.conv1.norm.running_mean": "backbone.stem.norm.running_mean",
    "backbone.res3.0.shortcut.norm.weight": "backbone.stages.1.0.downsample.norm.weight",
    "backbone.res4.5.conv2.norm.running_var": "backbone.stages.2.5.conv2.norm.running_var",
    f"{PIXEL}input_proj.0.0.weight": "pixel_decoder.input_proj.0.0.weight",
    f"{PIXEL}input_proj.2.1.bias": "pixel_decoder.input_proj.2.1.bias",
    f"{PIXEL}transformer.level_embed": "pixel_decoder.level_embed",
    f"{PIXEL}adapter_1.weight": "pixel_decoder.lateral.0.weight",
    f"{PIXEL}adapter_1.norm.bias": "pixel_decoder.lateral.1.bias",
    f"{PIXEL}layer_1.weight": "pixel_decoder.smooth.0.weight",
    f"{PIXEL}layer_1.norm.weight": "pixel_decoder.smooth.1.weight",
    f"{PIXEL}mask_features.bias": "pixel_decoder.mask_features.bias",
    **{
        f"{PIXEL}transformer.encoder.layers.1.{theirs}.weight": f"pixel_decoder.layers.1.{ours}.weight"
        for theirs, ours in {
            "self_attn.sampling_offsets": "attention.sampling_offsets",
            "self_attn.attention_weights": "attention.attention_weights",
            "self_attn.value_proj": "attention.value_proj",
            "self_attn.output_proj": "attention.output_proj",
            "norm1": "norm",
            "linear1": "ffn.linear1",
            "linear2": "ffn.linear2",
            "norm2": "ffn.norm",
        }.items()
    },
    f"{PREDICTOR}transformer_cross_attention_layers.2.multihead_attn.out_proj.weight": (
        f"{STACK}layers.2.cross_attention.output.weight"
    ),
    f"{PREDICTOR}transformer_cross_attention_layers.2.norm.weight": f"{STACK}layers.2.cross_norm.weight",
    f"{PREDICTOR}transformer_self_attention_layers.0.self_attn.out_proj.bias": (
        f"{STACK}layers.0.self_attention.output.bias"
    ),
    f"{PREDICTOR}transformer_self_attention_layers.0.norm.bias": f"{STACK}layers.0.self_norm.bias",
    f"{PREDICTOR}transformer_ffn_layers.1.linear1.weight": f"{STACK}layers.1.ffn.linear1.weight",
    f"{PREDICTOR}transformer_ffn_layers.1.linear2.bias": f"{STACK}layers.1.ffn.linear2.bias",
    f"{PREDICTOR}transformer_ffn_layers.1.norm.weight": f"{STACK}layers.1.ffn.norm.weight",
    f"{PREDICTOR}decoder_norm.weight": f"{STACK}heads.norm.weight",
    f"{PREDICTOR}class_embed.bias": f"{STACK}heads.class_embed.bias",
    f"{PREDICTOR}mask_embed.layers.0.weight": f"{STACK}heads.mask_embed.0.weight",
    f"{PREDICTOR}mask_embed.layers.1.bias": f"{STACK}heads.mask_embed.2.bias",
    f"{PREDICTOR}mask_embed.layers.2.weight": f"{STACK}heads.mask_embed.4.weight",
    f"{PREDICTOR}level_embed.weight": f"{STACK}level_embed.weight",
    f"{PREDICTOR}query_feat.weight": "decoder.query_sets.video.content.weight",
    f"{PREDICTOR}query_embed.weight": "decoder.query_sets.video.position.weight",
}
"""One name of every sort, as the published code and ours use it."""

STRUCTURES: dict[str, dict[str, Any]] = {
    "synchronous": {"subclips": None},
    "cascade": {"method.structure": "cascade", "sync": None, "subclips": None},
    "frame_only": {"method.structure": "frame_only", "sync": None, "subclips": None},
    "video_only": {"method.structure": "video_only", "sync": None, "subclips": None},
    "unshared": {"model.decoder.shared": False, "sync": None},
}


def _state(structure: str = "synchronous", classes: int = 5, **changes: Any) -> State:
    """State dict of a model of ours in the sizes of the skeleton."""
    config = tiny_config({"model": official.MODEL_CONFIG, **STRUCTURES[structure], **changes})
    return build(config, classes).state_dict()


@pytest.fixture(scope="module")
def stored() -> State:
    return official.mask2former()


def test_every_sort_of_name_goes_where_it_is_used(stored: State) -> None:
    model = from_official(stored, heads=official.HEADS, points=official.POINTS)
    state = model.state_dict()
    for theirs, ours in MEANING.items():
        assert torch.equal(state[ours], stored[theirs]), theirs
    assert not any(".frame." in name for name in state)
    assert not model.training


@pytest.mark.parametrize("part", ["cross", "self"])
def test_packed_attention_computes_the_same(stored: State, part: str) -> None:
    prefix = f"{PREDICTOR}transformer_{part}_attention_layers.1."
    prefix += "multihead_attn." if part == "cross" else "self_attn."
    theirs = nn.MultiheadAttention(official.DIM, official.HEADS, batch_first=True)
    theirs.load_state_dict({k.removeprefix(prefix): x for k, x in stored.items() if k.startswith(prefix)})
    ours = Attention(official.DIM, official.HEADS)
    own = f"{STACK}layers.1.{part}_attention."
    tensors = convert(stored, _state()).tensors
    ours.load_state_dict({k.removeprefix(own): x for k, x in tensors.items() if k.startswith(own)})
    query, key, value = torch.randn(3, 2, 7, official.DIM).unbind()
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_one_file_starts_every_structure(stored: State, structure: str) -> None:
    state = _state(structure)
    converted = convert(stored, state)
    assert set(converted.loaded.values()) | converted.skipped.keys() == stored.keys()
    assert converted.skipped == {"criterion.empty_weight": "class weights of the loss, which the config gives"}
    assert converted.loaded.keys() | converted.fresh.keys() == state.keys()
    assert all(name.startswith("decoder.sync.") for name in converted.fresh)
    assert bool(converted.fresh) == (structure == "synchronous")
    for name, tensor in converted.tensors.items():
        if ".content." in name:
            assert torch.equal(tensor, stored[f"{PREDICTOR}query_feat.weight"])
        if "layers.2.cross_norm.bias" in name:
            assert torch.equal(tensor, stored[f"{PREDICTOR}transformer_cross_attention_layers.2.norm.bias"])


def test_the_tensors_share_no_memory(stored: State) -> None:
    tensors = convert(stored, _state()).tensors
    places = {tensor.untyped_storage().data_ptr() for tensor in (*tensors.values(), *stored.values())}
    assert len(places) == len(tensors) + len(stored)


def test_a_class_head_of_coco_starts_fresh() -> None:
    stored = official.mask2former(classes=80)
    converted = convert(stored, _state(classes=40))
    heads = {name: reason for name, reason in converted.fresh.items() if not name.startswith("decoder.sync.")}
    assert heads.keys() == {f"{STACK}heads.class_embed.weight", f"{STACK}heads.class_embed.bias"}
    assert set(heads.values()) == {"class head of 41 rows, the file has one of 81"}
    assert {f"{PREDICTOR}class_embed.weight", f"{PREDICTOR}class_embed.bias"} < converted.skipped.keys()
    assert not heads.keys() & converted.tensors.keys()
    assert f"{STACK}heads.class_embed.weight" in convert(stored, _state(classes=80)).loaded


def _old_head(state: State) -> State:
    return {name.replace("pixel_decoder.", ""): x for name, x in state.items()}


def _static_query(state: State) -> State:
    return {name.replace("query_feat", "static_query"): x for name, x in state.items()}


def _parallel_constants(state: State) -> State:
    return {**state, "pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}


@pytest.mark.parametrize("spelling", [_old_head, _static_query, _parallel_constants])
def test_old_spellings(stored: State, spelling: Callable[[State], State]) -> None:
    old = spelling(stored)
    assert old.keys() != stored.keys()
    new = convert(stored, _state())
    converted = convert(old, _state())
    assert converted.loaded.keys() == new.loaded.keys()
    assert all(torch.equal(x, new.tensors[name]) for name, x in converted.tensors.items())


@pytest.mark.parametrize("module", ["vita", "vfi", "syncvis"])
def test_the_released_syncvis_gives_what_it_shares(module: str) -> None:
    stored = official.released_syncvis(module)
    converted = convert(stored, _state())
    for level, number in (("frame", ""), ("video", "1")):
        for ours, theirs in (("content", "query_feat"), ("position", "query_embed")):
            found = converted.tensors[f"decoder.query_sets.{level}.{ours}.weight"]
            assert torch.equal(found, stored[f"{PREDICTOR}{theirs}{number}.weight"])
    parts = (f"{module}_module.", f"{PREDICTOR}FFN_", f"{PREDICTOR}multi_attn.", f"{PREDICTOR}query_feat")
    expected = {key for key in stored if key.startswith(parts)} - converted.skipped.keys()
    expected -= {f"{PREDICTOR}query_feat.weight", f"{PREDICTOR}query_feat1.weight"}
    assert converted.unused.keys() == expected
    assert len(expected) == 93 + 18 + 4 + 4
    assert converted.skipped.keys() == {"criterion.empty_weight", f"{module}_criterion.empty_weight"}


def test_parts_of_the_model_that_the_file_has_nothing_of(stored: State) -> None:
    state = _state() | {"temporal.encoder.weight": torch.zeros(1), "temporal.decoder.weight": torch.zeros(1)}
    fresh = {name: why for name, why in convert(stored, state).fresh.items() if ".sync." not in name}
    why = "temporal, of which the file has nothing"
    assert fresh == {"temporal.encoder.weight": why, "temporal.decoder.weight": why}
    for prefix, lacking in ((PIXEL, "pixel_decoder"), (PREDICTOR, "decoder")):
        cut = {key: x for key, x in stored.items() if not key.startswith(prefix)}
        with pytest.raises(Misfit, match=rf"file lacks \(\d+\): {lacking}\."):
            convert(cut, _state())


def test_new_layers_of_a_method_inside_a_part_of_the_file(stored: State) -> None:
    state = _state() | {"decoder.taxonomy.weight": torch.zeros(1), "decoder.sync2.weight": torch.zeros(1)}
    with pytest.raises(Misfit, match=r"file lacks \(1\): decoder\.sync2\.weight"):
        convert(stored, state, fresh=("decoder.taxonomy",))
    converted = convert(stored, state, fresh=("decoder.taxonomy", "decoder.sync2"))
    assert converted.fresh["decoder.taxonomy.weight"] == "decoder.taxonomy, of which the file has nothing"


def test_a_method_without_models_in_files(stored: State) -> None:
    with pytest.raises(StorageError, match=r"no model of \w+ is made from a file\. Fix: choose from mask2former_vis, "):
        from_official(stored, method="other")


def test_sizes_come_from_the_family_of_the_method(stored: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that is new to the package: one table entry, whose models have two levels."""

    def entries(sizes: Sizes, level: Level, heads: int, points: int) -> dict[str, Any]:
        return {"model": model_entries(sizes, heads, points), "method": {"structure": "synchronous"}, "subclips": None}

    monkeypatch.setitem(FAMILIES, "mine", Family("Mine", entries=entries))
    sizes = {"heads": official.HEADS, "points": official.POINTS}
    with pytest.raises(StorageError, match=r"lacks what the model has: decoder\.sync\.0\..* and \d+ more"):
        from_official(stored, **sizes, method="mine")
    found = from_official(stored, **sizes, changes={"sync": None}, method="mine")
    wanted = _state("synchronous", sync=None)
    assert {name: x.shape for name, x in found.state_dict().items()} == {name: x.shape for name, x in wanted.items()}


@pytest.mark.parametrize(("structure", "left_out"), [("video_only", ""), ("frame_only", "1")])
def test_queries_of_a_level_that_the_model_lacks(structure: str, left_out: str) -> None:
    converted = convert(official.released_syncvis(), _state(structure))
    reasons = {key: reason for key, reason in converted.skipped.items() if "query" in key}
    assert reasons.keys() == {f"{PREDICTOR}query_feat{left_out}.weight", f"{PREDICTOR}query_embed{left_out}.weight"}
    assert set(reasons.values()) == {"queries of a level that the model does not have"}


DAMAGE: dict[str, tuple[Callable[[State], object], list[str]]] = {
    "missing": (
        lambda s: s.pop(f"{PREDICTOR}transformer_ffn_layers.2.norm.bias"),
        ["tensors that the file lacks (1): decoder.stacks.0.layers.2.ffn.norm.bias"],
    ),
    "missing query": (
        lambda s: s.pop(f"{PREDICTOR}query_embed.weight"),
        ["decoder.query_sets.frame.position.weight, decoder.query_sets.video.position.weight"],
    ),
    "missing packed": (
        lambda s: s.pop(f"{PREDICTOR}transformer_self_attention_layers.0.self_attn.in_proj_bias"),
        [f"{STACK}layers.0.self_attention.{role}.bias" for role in ("query", "key", "value")],
    ),
    "unknown": (
        lambda s: s.update({"sem_seg_head.predictor.box_embed.weight": torch.zeros(4)}),
        ["names that the model has no place for (1): sem_seg_head.predictor.box_embed.weight"],
    ),
    "unknown part": (
        lambda s: s.update({"tracker.weight": torch.zeros(4)}),
        ["names that the model has no place for (1): tracker.weight"],
    ),
    "another layer": (
        lambda s: s.update({f"{PREDICTOR}transformer_ffn_layers.3.norm.bias": torch.zeros(official.DIM)}),
        [f"{PREDICTOR}transformer_ffn_layers.3.norm.bias"],
    ),
    "shape": (
        lambda s: s.update({f"{PIXEL}adapter_1.norm.weight": torch.zeros(7)}),
        [f"tensors of another shape (1): {PIXEL}adapter_1.norm.weight (7,) for pixel_decoder.lateral.1.weight (32,)"],
    ),
    "packed shape": (
        lambda s: s.update({f"{PREDICTOR}transformer_self_attention_layers.0.self_attn.in_proj_bias": torch.zeros(9)}),
        [f"(3,) for {STACK}layers.0.self_attention.key.bias (32,)"],
    ),
    "class head of other channels": (
        lambda s: s.update({f"{PREDICTOR}class_embed.weight": torch.zeros(6, 8)}),
        [f"{PREDICTOR}class_embed.weight (6, 8)"],
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_does_not_fit_is_named(stored: State, kind: str) -> None:
    change, parts = DAMAGE[kind]
    damaged = dict(stored)
    change(damaged)
    with pytest.raises(Misfit) as error:
        convert(damaged, _state(), "model.pth")
    text = str(error.value)
    assert text.startswith("model.pth: does not fit the model")
    assert "\n" not in text
    assert all(part in text for part in parts)


def test_two_names_for_one_tensor(stored: State) -> None:
    new, old = f"{PREDICTOR}query_feat.weight", f"{PREDICTOR}static_query.weight"
    converted = convert(stored | {old: stored[new].clone()}, _state())
    assert converted.skipped[old] == f"the same numbers as {new}"
    packed = f"{PREDICTOR}transformer_self_attention_layers.0.self_attn.in_proj_weight"
    with pytest.raises(StorageError, match=r"two names for one tensor that differ \(1\)") as error:
        as_stored(stored | {packed.replace("self_attn.in", "module.self_attn.in"): stored[packed] * 2})
    assert packed in str(error.value)
    with pytest.raises(StorageError, match=r"m\.pth: has two names for one tensor that differ \(1\): ") as error:
        convert(stored | {old: stored[new] + 1}, _state(), "m.pth")
    assert f"{new} and {old}. Fix: " in str(error.value)


def test_a_config_of_another_size(stored: State) -> None:
    with pytest.raises(Misfit, match=r"tensors of another shape \(\d+\): .* and \d+ more") as error:
        convert(stored, _state(**{"model.hidden_dim": 64}))
    key = f"{PREDICTOR}transformer_cross_attention_layers.0.multihead_attn.in_proj_weight"
    assert f"{key} (32, 32) for {STACK}layers.0.cross_attention.query.weight (64, 64)" in error.value.listing


@pytest.mark.parametrize("level", ["frame", "video"])
def test_a_model_from_the_shapes_of_a_state_dict(stored: State, level: Level) -> None:
    model = from_official({"model": stored}, level, heads=official.HEADS, points=official.POINTS)
    wanted = _state(f"{level}_only")
    assert {name: x.shape for name, x in model.state_dict().items()} == {name: x.shape for name, x in wanted.items()}


def test_a_model_with_a_swin() -> None:
    stored = official.mask2former(backbone=official.swin())
    model = from_official(stored, heads=official.HEADS, points=official.POINTS, changes={"criterion.points": 99})
    assert isinstance(model.backbone, Swin)
    attention = model.backbone.stages[2][1].attn
    assert (attention.num_heads, attention.window_size) == (3, [2, 2])
    assert torch.equal(model.state_dict()["backbone.norms.3.bias"], stored["backbone.norm3.bias"])
    assert model.criterion.points.points == 99


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: official.random_state(official.resnet()), "is a backbone alone"),
        (official.released_syncvis, r"holds more than a Mask2Former: syncvis_module\..* and 116 more"),
        (lambda: {k: x for k, x in official.mask2former().items() if "class_embed" not in k}, "has no decoder"),
    ],
)
def test_what_is_no_mask2former(make: Callable[[], State], problem: str) -> None:
    with pytest.raises(StorageError, match=problem):
        from_official(make(), heads=official.HEADS, points=official.POINTS)
