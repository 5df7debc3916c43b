"""Layouts of features, predictions and tracks: cut and joined over frames, embeddings of a clip and of each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.outputs import ClipFeatures, ClipOutput, LayerOutput, LevelOutput, VideoTracks
from syncvis.structures import Level

B, T, Q, C, H, W = 2, 5, 4, 3, 8, 12


def _features(clip_mask: Tensor | None = None) -> ClipFeatures:
    torch.manual_seed(0)
    return ClipFeatures.of(
        [torch.randn(B, T, 6, 2, 3), torch.randn(B, T, 6, 4, 6)], torch.randn(B, T, C, H, W), clip_mask
    )


def _tensors(features: ClipFeatures) -> Iterator[Tensor]:
    yield from (*features.levels, features.mask, *features.guides)
    if features.clip_mask is not None:
        yield features.clip_mask


@pytest.mark.parametrize("clip_mask", [None, torch.randn(B, T, 2, H, W)], ids=["one map", "two maps"])
def test_features_cut_and_joined_over_frames(clip_mask: Tensor | None) -> None:
    features = _features(clip_mask)
    parts = [features.window(frames) for frames in ((0, 1), (2,), (3, 4))]
    assert [part.num_frames for part in parts] == [2, 1, 2]
    joined = ClipFeatures.concat([part.offloaded() for part in parts])
    assert all(torch.equal(x, y) for x, y in zip(_tensors(joined), _tensors(features), strict=True))
    some = features.window((3, 0))
    assert all(torch.equal(x, y[:, [3, 0]]) for x, y in zip(_tensors(some), _tensors(features), strict=True))


def test_guides_are_the_masks_at_the_sizes_of_the_levels() -> None:
    mask, code = torch.randn(B, T, C, H, W, requires_grad=True), torch.randn(C)
    features = ClipFeatures.of(_features().levels, mask)
    masks = torch.einsum("c,btchw->bthw", code, mask)
    for guide, size in zip(features.guides, ((2, 3), (4, 6)), strict=True):
        small = torch.einsum("c,btchw->bthw", code, guide)
        torch.testing.assert_close(small, F.interpolate(masks, size, mode="bilinear"))
        assert not guide.requires_grad


def _output(level: Level, parts: tuple[int, ...]) -> LevelOutput:
    torch.manual_seed(1)
    features = _features()
    return LevelOutput(
        level,
        torch.randn(B, *parts, Q, 6),
        torch.randn(B, *parts, Q, 3),
        torch.randn(B, *parts, Q, C),
        features.mask,
        features.guides[-1],
    )


def _of_frame(x: Tensor, t: int) -> Tensor:
    return x[:, t] if x.ndim == 4 else x


@pytest.mark.parametrize(("level", "parts"), [("frame", (T,)), ("video", (T,)), ("video", ())])
def test_predictions_frame_by_frame(level: Level, parts: tuple[int, ...]) -> None:
    output = _output(level, parts)
    assert output.guide is not None
    for t in range(T):
        codes, time = _of_frame(output.mask_embeddings, t), 1 if level == "frame" else 2
        masks = torch.einsum("bqc,bchw->bqhw", codes, output.mask_features[:, t])
        torch.testing.assert_close(output.mask_logits.select(time, t), masks)
        small = torch.einsum("bqc,bchw->bqhw", codes, output.guide[:, t]).flatten(2)
        torch.testing.assert_close(output.mask_logits_by_frame[:, t], small)
        assert torch.equal(output.mask_embeddings_by_frame[:, t], codes)
        assert torch.equal(output.embeddings_by_frame[:, t], _of_frame(output.embeddings, t))
        probabilities = _of_frame(output.class_logits, t).softmax(-1)[..., :2]
        assert torch.equal(output.class_probabilities_by_frame[:, t], probabilities)


def test_predictions_cut_and_joined_over_frames() -> None:
    output = _output("frame", (T,))
    joined = LevelOutput.concat([output.window((0, 1, 2)), output.window((3, 4))])
    for name, value in vars(replace(output, guide=None)).items():
        assert torch.equal(vars(joined)[name], value) if isinstance(value, Tensor) else vars(joined)[name] == value
    guide = output.window((4, 1)).guide
    assert guide is not None
    assert torch.equal(guide, output.guide[:, [4, 1]])  # type: ignore[index]


def test_detached_predictions_have_the_same_values() -> None:
    tensors = {name: x for name, x in vars(_output("frame", (T,))).items() if isinstance(x, Tensor)}
    output = LevelOutput("frame", **{name: x.clone().requires_grad_() for name, x in tensors.items()})
    for name, value in tensors.items():
        detached = getattr(output.detach(), name)
        assert torch.equal(detached, value)
        assert not detached.requires_grad


def test_outputs_by_level_and_name() -> None:
    frame, video = _output("frame", (T,)), _output("video", ())
    output = ClipOutput((LayerOutput(frame), LayerOutput(frame, video), LayerOutput(video=video)))
    assert output.of("frame") == [frame, frame]
    assert output.of("video") == [video, video]
    assert list(output.named()) == ["layer0.frame", "layer1.frame", "layer1.video", "layer2.video"]
    assert output.final.levels() == [video]


def test_masks_of_some_tracks_in_some_frames() -> None:
    codes, features = torch.randn(T, Q, C), torch.randn(T, C, H, W)
    tracks = VideoTracks(torch.rand(Q, 2), codes, torch.ones(T, Q) > 0, features)
    masks = tracks.mask_logits(torch.tensor([2, 0]), 1, 4)
    assert masks.shape == (2, 3, H, W)
    for row, track in enumerate((2, 0)):
        for t in (1, 2, 3):
            torch.testing.assert_close(masks[row, t - 1], torch.einsum("c,chw->hw", codes[t, track], features[t]))
