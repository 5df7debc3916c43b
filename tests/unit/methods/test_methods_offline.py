"""Offline methods: the tracks of a video that comes in chunks are what its whole decoding predicts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import MODULES, method_model, random_batch

from syncvis.methods.base import Method
from syncvis.methods.vita import VITAOutput
from syncvis.outputs import ClipFeatures, LevelOutput, VideoTracks

OFFLINE: dict[str, tuple[str, dict[str, Any]]] = {
    "mask2former_vis": ("mask2former_vis", {}),
    "cascade": ("mask2former_vis", {"method.structure": "cascade"}),
    "tmt_vis": ("tmt_vis", {}),
    "vita": ("vita", {}),
}


def _features(model: Method) -> ClipFeatures:
    batch = random_batch(5)
    return model.encode(batch.images.double(), batch.valid)


def _tracks(model: Method, features: ClipFeatures, stored: torch.dtype | None = None) -> VideoTracks:
    stream = model.stream(stored)
    for frames in ((0, 1), (2, 3), (4,)):
        stream.step(features.window(frames))
    return stream.finish()


def _predicted(model: Method, features: ClipFeatures) -> LevelOutput:
    output = model.decode_video(features)
    level = output.clips[-1] if isinstance(output, VITAOutput) else output.final.video
    assert level is not None
    return level


CASES = [
    (name, modules) for name in OFFLINE for modules in MODULES if not (name == "cascade" and MODULES[modules]["sync"])
]


@pytest.mark.parametrize(("name", "modules"), CASES)
@torch.no_grad()
def test_the_tracks_are_what_is_predicted(name: str, modules: str) -> None:
    method, changes = OFFLINE[name]
    model = method_model(method, MODULES[modules] | changes).double().eval()
    features = _features(model)
    level, tracks = _predicted(model, features), _tracks(model, features)
    torch.testing.assert_close(tracks.scores, level.class_logits[0].softmax(-1)[:, :-1], rtol=1e-9, atol=1e-11)
    masks = tracks.mask_logits(torch.arange(len(tracks.scores)), 0, 5)
    torch.testing.assert_close(masks, level.mask_logits[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [*OFFLINE, "minvis", "ctvis"])
@torch.no_grad()
def test_half_precision_changes_a_little(method: str) -> None:
    """Mask features wait in float16; logits are computed in the precision of the weights."""
    name, changes = OFFLINE.get(method, (method, {}))
    model = method_model(name, MODULES["none"] | changes).double().eval()
    features = _features(model)
    exact, rounded = (_tracks(model, features, stored) for stored in (None, torch.float16))
    assert {frame.dtype for frame in rounded.mask_features} == {torch.float16}
    everything = torch.arange(len(exact.scores))
    wanted, found = (tracks.mask_logits(everything, 0, 5) for tracks in (exact, rounded))
    assert found.dtype == torch.float64
    assert 0 < (found - wanted).abs().mean() < 1e-2 * wanted.std()
    torch.testing.assert_close(rounded.scores, exact.scores, rtol=0, atol=1e-2)
