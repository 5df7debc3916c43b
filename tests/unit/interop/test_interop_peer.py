"""Our model against the published Mask2Former-VIS, number by number.

``tests/fixtures/mask2former_vis.safetensors`` holds what the published implementation computed (facebookresearch's
Mask2Former at 9b0651c6 with detectron2 at 02b5c4e2, torch 2.15, float32 on the CPU, in training mode but for the
tracks) with weights, frames and sampled points that :func:`_seeded` makes from their names; the shapes of its state
dict and its dimensions are in the file's metadata. Of each gradient there are its norm and its product with a seeded
vector. Nothing in the file but these results was made by others.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from syncvis.config import EvalConfig
from syncvis.interop.official import from_official
from syncvis.interop.trace import Trace, as_targets, clip_batch, official_names, trace
from syncvis.interop.translate import translate
from syncvis.losses.points import GivenPoints
from syncvis.losses.views import Supervision
from syncvis.methods.mask2former_vis import Mask2FormerVIS
from syncvis.ops.masks import decode
from syncvis.structures import ClipTarget, Window
from syncvis.training.inference import predict_video

FIXTURE = Path(__file__).parents[2] / "fixtures" / "mask2former_vis.safetensors"
CLIPS, FRAMES, HEIGHT, WIDTH, POINTS, OUTPUTS, PAIRS = 2, 3, 64, 96, 112, 4, 5
WINDOWS = [Window.whole(FRAMES)]


def _random(name: str) -> np.random.RandomState:
    """Numpy promises that the numbers of this generator never change."""
    return np.random.RandomState(zlib.crc32(f"0 {name}".encode()))


def _seeded(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight of the published model by its name."""
    source = _random(name)
    x = source.standard_normal(shape)
    if name.endswith("running_var"):
        x = 0.5 + source.random_sample(shape)
    elif name.endswith("running_mean"):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x if name.endswith("weight") else 0.1 * x
    elif "query_" not in name and "level_embed" not in name:
        x = (4.0 if "class_embed" in name else 1.0) * x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(x).float()


@pytest.fixture(scope="module")
def peer() -> dict[str, Any]:
    with safe_open(FIXTURE, "pt") as stream:
        return {"metadata": stream.metadata()} | {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def model(peer: dict[str, Any]) -> Mask2FormerVIS:
    shapes = json.loads(peer["metadata"]["shapes"])
    state = {name: _seeded(name, tuple(shape)) for name, shape in shapes.items() if name != "criterion.empty_weight"}
    return from_official(state, changes={"criterion.points": POINTS})


@pytest.fixture(scope="module")
def frames() -> Tensor:
    coarse = torch.from_numpy(_random("frames").randint(0, 256, (CLIPS, FRAMES, 3, 8, 12))).float()
    return F.interpolate(coarse.flatten(0, 1), (HEIGHT, WIDTH)).unflatten(0, (CLIPS, FRAMES))


@pytest.fixture(scope="module")
def ours(model: Mask2FormerVIS, frames: Tensor) -> Trace:
    return trace(model, frames)


def _targets() -> tuple[ClipTarget, ...]:
    """Three and two boxes that move; one of each clip is absent from a frame."""
    masks = [torch.zeros(3, FRAMES, HEIGHT, WIDTH), torch.zeros(2, FRAMES, HEIGHT, WIDTH)]
    for b, clip in enumerate(masks):
        for g in range(len(clip)):
            for t in range(FRAMES):
                y, x = 5 + 9 * g + 4 * t, 7 + 20 * g + 5 * t + 10 * b
                if (b, g, t) not in ((0, 1, 1), (1, 0, 0)):
                    clip[g, t, y : y + 24, x : x + 30] = 1
    return as_targets([torch.tensor([1, 4, 0]), torch.tensor([2, 2])], masks)


def _points() -> GivenPoints:
    matching = [_random(f"matching {i}").random_sample((CLIPS, POINTS, 2)) for i in range(OUTPUTS)]
    losses = [_random(f"losses {i}").random_sample((PAIRS * FRAMES, POINTS, 2)) for i in range(OUTPUTS)]
    return GivenPoints(*([torch.from_numpy(x).float() for x in points] for points in (matching, losses)))


def _assert_equal(found: Tensor, wanted: Tensor) -> None:
    """Within 1e-5 of the largest value."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_backbone_and_pixel_decoder(peer: dict[str, Any], ours: Trace) -> None:
    for level, found in enumerate(ours.backbone):
        _assert_equal(found, peer[f"backbone.res{level + 2}"])
    for level, found in enumerate(ours.levels):
        _assert_equal(found.flatten(0, 1), peer[f"levels.{level}"])
    _assert_equal(ours.mask_features.flatten(0, 1), peer["mask_features"])


@pytest.mark.parametrize("output", range(OUTPUTS))
def test_every_output(peer: dict[str, Any], ours: Trace, output: int) -> None:
    _assert_equal(ours.class_logits[output], peer[f"class_logits.{output}"])
    _assert_equal(ours.mask_logits[output], peer[f"mask_logits.{output}"])


def test_matching(peer: dict[str, Any], model: Mask2FormerVIS, ours: Trace) -> None:
    found = model.criterion.levels(ours.output, Supervision(_targets(), _points()), WINDOWS)[1]["video"]
    for output in range(OUTPUTS):
        here = found.output == output
        pairs = torch.stack([found.clip, found.query, found.instance])[:, here]
        assert torch.equal(pairs, peer[f"matches.{output}"])


def test_losses_and_gradients(peer: dict[str, Any], model: Mask2FormerVIS, frames: Tensor) -> None:
    losses = official_names(model.losses(clip_batch(frames, _targets()), points=_points()))
    assert losses.keys() == {name.removeprefix("losses.") for name in peer if name.startswith("losses.")}
    for name, value in losses.items():
        assert value.item() == pytest.approx(peer[f"losses.{name}"].item(), rel=1e-5), name
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    own, compared = dict(model.named_parameters()), set()
    for name, parts in _own_names(json.loads(peer["metadata"]["shapes"])).items():
        if f"gradient.{name}" not in peer:  # a buffer
            continue
        gradients = [own[key].grad for key in parts if key in own]
        gradient = torch.cat([g.double().flatten() for g in gradients if g is not None])
        probe = torch.from_numpy(_random(f"probe {name}").standard_normal(gradient.numel()))
        norm, product = peer[f"gradient.{name}"].tolist()
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-4), name
        assert (gradient @ probe).item() == pytest.approx(product, abs=1e-3 * norm), name
        compared |= set(parts)
    assert compared >= set(own)


def _own_names(shapes: dict[str, list[int]]) -> dict[str, list[str]]:
    """Our names of every published tensor; its attention keeps query, key and value, in this order, in one matrix."""
    names = list(shapes)
    numbered = {name: torch.full(shapes[name], float(i)) for i, name in enumerate(names)}
    found: dict[str, list[str]] = {}
    for key, tensor in translate(numbered).tensors.items():
        found.setdefault(names[int(tensor.flatten()[0])], []).append(key)
    return found


def test_tracks(peer: dict[str, Any], model: Mask2FormerVIS, frames: Tensor) -> None:
    prediction = predict_video(model, clip_batch(frames[:1]), (HEIGHT, WIDTH), (80, 120), 0, EvalConfig())
    scores, order = peer["scores"].sort(descending=True)
    assert [t.score for t in prediction.tracks] == pytest.approx(scores.tolist(), rel=1e-5)
    assert [t.label for t in prediction.tracks] == peer["labels"][order].tolist()
    bits = np.unpackbits(peer["masks"].numpy(), count=10 * FRAMES * 80 * 120).reshape(10, FRAMES, 80, 120)
    found = [
        [decode(rle, 80, 120, "mask") if rle else np.zeros((80, 120)) for rle in t.masks] for t in prediction.tracks
    ]
    assert np.array_equal(found, bits[order.numpy()])
