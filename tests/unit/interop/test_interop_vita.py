"""VITA's files: the temporal module's names go where their numbers are used, and sizes come from the shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import official_skeleton as official
import pytest
import torch
from helpers import tiny_config
from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.checkpoints import Misfit, convert
from syncvis.interop.official import from_official
from syncvis.methods import build
from syncvis.methods.vita import VITA

State = dict[str, Tensor]

STAGE, TEMPORAL, PREDICTOR = "vita_module.", "temporal.", "sem_seg_head.predictor."
MEANING = {
    "vita_mask_features.weight": "mask_features.weight",
    "input_proj_dec.bias": "encoder.projection.bias",
    "enc_self_attn.2.self_attn.out_proj.weight": "encoder.layers.2.attention.output.weight",
    "enc_self_attn.1.norm.weight": "encoder.layers.1.norm.weight",
    "enc_ffn.0.linear1.weight": "encoder.layers.0.ffn.linear1.weight",
    "enc_ffn.0.linear2.bias": "encoder.layers.0.ffn.linear2.bias",
    "enc_ffn.2.norm.bias": "encoder.layers.2.ffn.norm.bias",
    "fq_pos.weight": "decoder.frame_code.weight",
    "query_feat.weight": "decoder.queries.content.weight",
    "query_embed.weight": "decoder.queries.position.weight",
    "transformer_cross_attention_layers.1.multihead_attn.out_proj.bias": "decoder.layers.1.cross_attention.output.bias",
    "transformer_cross_attention_layers.0.norm.bias": "decoder.layers.0.cross_norm.bias",
    "transformer_self_attention_layers.1.self_attn.out_proj.weight": "decoder.layers.1.self_attention.output.weight",
    "transformer_self_attention_layers.0.norm.weight": "decoder.layers.0.self_norm.weight",
    "transformer_ffn_layers.0.linear1.weight": "decoder.layers.0.ffn.linear1.weight",
    "transformer_ffn_layers.1.linear2.weight": "decoder.layers.1.ffn.linear2.weight",
    "transformer_ffn_layers.1.norm.bias": "decoder.layers.1.ffn.norm.bias",
    "decoder_norm.weight": "heads.norm.weight",
    "class_embed.bias": "heads.class_embed.bias",
    "mask_embed.layers.0.weight": "heads.mask_embed.0.weight",
    "mask_embed.layers.1.bias": "heads.mask_embed.2.bias",
    "mask_embed.layers.2.weight": "heads.mask_embed.4.weight",
    "sim_embed_frame.weight": "frame_similarity.weight",
    "sim_embed_clip.bias": "clip_similarity.bias",
}
"""One name of every sort, as the published code and ours use it."""

SIZES: dict[str, Any] = {"heads": official.HEADS, "points": official.POINTS}


def _state(classes: int = 5, **changes: Any) -> State:
    """State dict of a VITA of ours in the sizes of the skeleton."""
    method = {
        "name": "vita",
        "clip_queries": official.CLIP_QUERIES,
        "ffn_dim": official.CLIP_FFN,
        "encoder_layers": official.TEMPORAL_ENCODER_LAYERS,
        "decoder_layers": official.CLIP_LAYERS,
    }
    config = tiny_config({"model": official.MODEL_CONFIG, "method": method, "sync": None, **changes})
    return build(config, classes).state_dict()


@pytest.fixture(scope="module")
def stored() -> State:
    return official.vita()


def test_every_sort_of_name_goes_where_it_is_used(stored: State) -> None:
    state = from_official(stored, **SIZES, method="vita").state_dict()
    for theirs, ours in MEANING.items():
        assert torch.equal(state[TEMPORAL + ours], stored[STAGE + theirs]), theirs
    packed = stored[f"{STAGE}enc_self_attn.1.self_attn.in_proj_weight"]
    roles = [state[f"{TEMPORAL}encoder.layers.1.attention.{role}.weight"] for role in ("query", "key", "value")]
    assert torch.equal(torch.cat(roles), packed)
    names = {key.removeprefix(STAGE) for key in stored if key.startswith(STAGE) and "in_proj_" not in key}
    assert {_sort_of(name) for name in names} == {_sort_of(name) for name in MEANING}


def _sort_of(name: str) -> str:
    """A name without the number of its layer, and without ``weight`` or ``bias``."""
    *parts, _ = name.split(".")
    return ".".join(part for part in parts if not part.isdecimal() or "mask_embed" in name)


def test_every_tensor_of_both_finds_its_place(stored: State) -> None:
    state = _state()
    converted = convert(stored, state)
    assert converted.loaded.keys() == state.keys()
    assert not converted.fresh
    assert not converted.unused
    constants = {"criterion.empty_weight", "vita_criterion.empty_weight"}
    assert converted.skipped.keys() == constants
    assert set(converted.loaded.values()) == stored.keys() - constants


def test_a_model_from_the_shapes_of_a_state_dict(stored: State) -> None:
    model = from_official({"model": stored}, **SIZES, method="vita", changes={"method.window": 4})
    assert isinstance(model, VITA)
    assert {name: x.shape for name, x in model.state_dict().items()} == {n: x.shape for n, x in _state().items()}
    assert (model.branches, model.compat, model.temporal.encoder.window) == (3, True, 4)
    assert not model.training


@pytest.mark.parametrize("module", ["vita", "vfi", "syncvis"])
def test_the_released_syncvis_starts_a_vita_with_an_exchange(module: str) -> None:
    stored = official.released_syncvis(module)
    converted = convert(stored, _state(sync={}))
    assert all(".sync." in name for name in converted.fresh)
    stage = {key for key in stored if key.startswith(f"{module}_module.")}
    assert stage <= set(converted.loaded.values())
    assert torch.equal(
        converted.tensors[f"{TEMPORAL}mask_features.weight"], stored[f"{module}_module.{module}_mask_features.weight"]
    )
    assert {key.removeprefix(PREDICTOR).split(".")[0] for key in converted.unused} == {
        "multi_attn", "FFN_1", "FFN_2", "FFN_3", "query_feat2", "query_feat3", "query_feat4", "query_feat5"
    }  # fmt: skip


def test_a_mask2former_starts_a_vita_but_for_its_temporal_module() -> None:
    converted = convert(official.mask2former(classes=80), _state(classes=40))
    temporal = {name for name in _state() if name.startswith(TEMPORAL)}
    heads = {f"decoder.stacks.0.heads.class_embed.{kind}" for kind in ("weight", "bias")}
    assert converted.fresh.keys() == temporal | heads
    assert {converted.fresh[name] for name in temporal} == {"temporal, of which the file has nothing"}


def test_class_heads_of_another_number_of_classes() -> None:
    converted = convert(official.vita(classes=80), _state(classes=40))
    heads = {f"{TEMPORAL}heads.class_embed.{kind}" for kind in ("weight", "bias")}
    assert heads < converted.fresh.keys()
    assert len(converted.fresh) == 4


DAMAGE: dict[str, tuple[Callable[[State], object], str]] = {
    "missing": (lambda s: s.pop(f"{STAGE}fq_pos.weight"), r"file lacks \(1\): temporal\.decoder\.frame_code\.weight"),
    "unknown": (
        lambda s: s.update({f"{STAGE}memory.weight": torch.zeros(4)}),
        r"no place for \(1\): vita_module\.memory\.weight",
    ),
    "shape": (
        lambda s: s.update({f"{STAGE}fq_pos.weight": torch.zeros(7, official.DIM)}),
        r"vita_module\.fq_pos\.weight \(7, 32\) for temporal\.decoder\.frame_code\.weight \(6, 32\)",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_does_not_fit_is_named(stored: State, kind: str) -> None:
    change, words = DAMAGE[kind]
    damaged = dict(stored)
    change(damaged)
    with pytest.raises(Misfit, match=words):
        convert(damaged, _state())


def test_a_mask2former_alone_is_no_vita() -> None:
    with pytest.raises(StorageError, match=r"has no temporal\.decoder\.queries\.content\.weight that tells a size"):
        from_official(official.mask2former(), **SIZES, method="vita")


def test_a_vita_is_more_than_a_mask2former(stored: State) -> None:
    with pytest.raises(StorageError, match=r"holds more than a Mask2Former: vita_module\."):
        from_official(stored, **SIZES)
