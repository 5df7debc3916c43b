"""A frozen encoder: no graph, frames one by one, and features that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import method_model, random_batch
from torch import Tensor

from syncvis.data.loader import frame_digests
from syncvis.feature_cache import FeatureCache
from syncvis.methods.base import Method
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.methods.masked import MaskedMethod
from syncvis.outputs import ClipFeatures
from syncvis.structures import ClipBatch

LIMIT = 2**30


def _frozen(method: str, trained: Sequence[str]) -> MaskedMethod:  # type: ignore[type-arg]
    model = method_model(method, {"train.trained": trained})
    assert isinstance(model, MaskedMethod)
    return model.train()


def _named(batch: ClipBatch) -> ClipBatch:
    return replace(batch, digests=tuple(frame_digests(clip) for clip in batch.images))


def _tensors(features: ClipFeatures) -> list[Tensor]:
    clip_mask = [] if features.clip_mask is None else [features.clip_mask]
    return [*features.levels, features.mask, *features.guides, *clip_mask]


@pytest.mark.parametrize("method", ["mask2former_vis", "vita", "ctvis", "minvis", "tmt_vis"])
def test_features_come_back_as_they_were(method: str, tmp_path: Path) -> None:
    """Also VITA's, whose temporal module reads the finest map with weights that learn."""
    trained = ["temporal"] if method == "vita" else ["decoder"]
    model, batch = _frozen(method, trained), _named(random_batch(3, (1, 2)))
    wanted = _tensors(model.encode_batch(batch))
    cache = FeatureCache(tmp_path, LIMIT)
    assert model.keep_features(cache, lambda: "identity")
    for hits in (0, 6):
        found = _tensors(model.encode_batch(batch))
        assert len(found) == len(wanted)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert cache.counts.hits == hits


def test_a_frame_does_not_depend_on_its_batch() -> None:
    model, batch = _frozen("mask2former_vis", ["decoder"]), random_batch(3, (1, 2))
    whole, alone = model.encode(batch.images, batch.valid), model.encode(batch.images[1:, 2:], batch.valid[1:, 2:])
    for a, b in zip(_tensors(whole), _tensors(alone), strict=True):
        assert torch.equal(a[1:, 2:], b)


def test_a_frame_that_comes_twice_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = _frozen("mask2former_vis", ["decoder"]), random_batch(2, (1, 2))
    batch = _named(replace(batch, images=batch.images[:, :1].expand(-1, 2, -1, -1, -1)))
    model.keep_features(FeatureCache(tmp_path, LIMIT), lambda: "identity")
    seen: list[int] = []
    pixels = model.pixels
    monkeypatch.setattr(model, "pixels", lambda x, v: (seen.append(len(x)), pixels(x, v))[1])
    model.encode_batch(batch)
    assert seen == [2]


def test_padding_precision_and_identity_are_other_entries(tmp_path: Path) -> None:
    model, batch = _frozen("mask2former_vis", ["decoder"]), _named(random_batch(1))
    cache = FeatureCache(tmp_path, LIMIT)
    wider = replace(
        batch,
        images=torch.nn.functional.pad(batch.images, (0, 32)),
        valid=torch.nn.functional.pad(batch.valid, (0, 32)),
    )
    for identity, given in (("a", batch), ("a", wider), ("b", batch)):
        model.keep_features(cache, lambda identity=identity: identity)  # type: ignore[misc]
        model.encode_batch(given)
    with torch.autocast("cpu", torch.bfloat16):
        model.encode_batch(batch)
    assert (cache.counts.misses, cache.counts.hits) == (4, 0)


@pytest.mark.parametrize("trained", [["backbone"], ["pixel_decoder"], ["pixel_decoder", "decoder"]], ids=str)
def test_an_encoder_that_learns_keeps_nothing(trained: list[str], tmp_path: Path) -> None:
    model = _frozen("mask2former_vis", trained)
    assert not model.keep_features(FeatureCache(tmp_path, LIMIT), lambda: "identity")
    features = model.encode(*_inputs())
    assert features.mask.requires_grad


def test_a_frozen_encoder_has_no_graph() -> None:
    features = _frozen("mask2former_vis", ["decoder"]).encode(*_inputs())
    assert not any(x.requires_grad for x in _tensors(features))


class _Own(Mask2FormerVIS):
    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        return super().encode(images.flip(-1), valid)


def test_a_method_that_encodes_otherwise_keeps_nothing(tmp_path: Path) -> None:
    model = _frozen("mask2former_vis", ["decoder"])
    model.__class__ = _Own
    assert isinstance(model, Method)
    assert not model.keep_features(FeatureCache(tmp_path, LIMIT), lambda: "identity")


def _inputs() -> tuple[Tensor, Tensor]:
    batch = random_batch(2)
    return batch.images, batch.valid
