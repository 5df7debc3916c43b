"""Files of CTVIS: a Mask2Former with a head more, which goes where its numbers are used."""

from __future__ import annotations

from typing import Any

import official_skeleton as official
import pytest
import torch
from helpers import tiny_config
from torch import Tensor, nn

from syncvis.errors import StorageError
from syncvis.interop.checkpoints import convert
from syncvis.interop.official import from_official
from syncvis.interop.trace import as_targets, clip_batch, official_names, trace
from syncvis.methods import build
from syncvis.methods.ctvis import CTVIS, IdentifiedOutput

HEAD = "sem_seg_head.predictor.reid_embed.layers."
SIZES = {"heads": official.HEADS, "points": official.POINTS}
BASE: dict[str, Any] = {"sync": None, "subclips": None}


def _state(changes: dict[str, Any], classes: int = 5) -> dict[str, Tensor]:
    """State dict of a CTVIS of ours in the sizes of the skeleton."""
    config = tiny_config({"model": official.MODEL_CONFIG, "method": {"name": "ctvis"}} | changes)
    return build(config, classes).state_dict()


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    return official.ctvis()


def test_every_name_of_both_sides_has_its_place(stored: dict[str, Tensor]) -> None:
    state = _state(BASE)
    converted = convert(stored, state)
    assert converted.tensors.keys() == converted.loaded.keys() == state.keys()
    assert converted.skipped.keys() == {"criterion.empty_weight"}
    assert set(converted.loaded.values()) | converted.skipped.keys() == stored.keys()
    assert not converted.unused
    assert not converted.fresh


def test_the_head_computes_what_the_published_one_does(stored: dict[str, Tensor]) -> None:
    """Three linear layers with ReLU between (CTVIS' MLP)."""
    model = from_official(stored, **SIZES, method="ctvis")
    assert isinstance(model, CTVIS)
    assert (model.settings.compat, model.settings.causal) == (True, "off")
    x = wanted = torch.randn(2, official.DIM)
    for i in range(3):
        wanted = nn.functional.linear(wanted, stored[f"{HEAD}{i}.weight"], stored[f"{HEAD}{i}.bias"])
        wanted = wanted.relu() if i < 2 else wanted
    torch.testing.assert_close(model.reid(x), wanted)


def test_with_the_modules_only_the_exchange_is_fresh(stored: dict[str, Tensor]) -> None:
    converted = convert(stored, _state({}))
    assert converted.fresh
    assert all(name.startswith("decoder.sync.") for name in converted.fresh)
    queries = converted.tensors["decoder.query_sets.video.content.weight"]
    assert torch.equal(queries, stored["sem_seg_head.predictor.query_feat.weight"])


def test_a_mask2former_starts_all_but_the_head(stored: dict[str, Tensor]) -> None:
    image_model = {key: x for key, x in stored.items() if not key.startswith(HEAD)}
    converted = convert(image_model, _state(BASE))
    assert converted.fresh.keys() == {f"reid.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")}
    assert set(converted.fresh.values()) == {"reid, of which the file has nothing"}
    with pytest.raises(StorageError, match=r"lacks what the model has: reid\.0\.weight"):
        from_official(image_model, **SIZES, method="ctvis")


def test_another_method_leaves_the_head(stored: dict[str, Tensor]) -> None:
    config = tiny_config({"model": official.MODEL_CONFIG, "method": {"name": "minvis"}} | BASE)
    converted = convert(stored, build(config, 5).state_dict())
    assert converted.unused.keys() == {key for key in stored if key.startswith(HEAD)}
    assert set(converted.unused.values()) == {"CTVIS' head for re-identification"}


def test_trace_and_losses_under_published_names(stored: dict[str, Tensor]) -> None:
    finite = {key: x.abs() + 1 if "running_var" in key else 0.2 * x for key, x in stored.items()}
    model = from_official(finite, **SIZES, method="ctvis", changes={"criterion.points": 16})
    assert isinstance(model, CTVIS)
    frames = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    found = trace(model, frames)
    last = found.output.final.frame
    assert last is not None
    assert isinstance(found.output, IdentifiedOutput)
    assert torch.equal(found.output.identity, model.reid(last.embeddings))
    masks = torch.zeros(2, 3, 32, 32)
    masks[0, :, :12], masks[1, 1:, 20:] = 1, 1
    losses = official_names(model.losses(clip_batch(frames, as_targets([torch.tensor([1, 3])], [masks]))))
    layers = ["", *(f"_{i}" for i in range(official.DECODER_LAYERS))]
    wanted = {f"loss_{term}{layer}" for term in ("ce", "mask", "dice") for layer in layers}
    assert losses.keys() == wanted | {"loss_reid", "loss_aux_reid"}
    assert all(value.isfinite() for value in losses.values())
