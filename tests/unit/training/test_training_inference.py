from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import STRUCTURES, level_output, random_batch, tiny_model
from torch import Tensor

from syncvis.config import EvalConfig
from syncvis.ops.masks import decode
from syncvis.structures import ClipBatch, ClipFeatures, ClipOutput, LayerOutput, VideoPrediction
from syncvis.training import inference
from syncvis.training.inference import link_frames, predict_video, track_predictions


def _video(num_frames: int, height: int = 32, width: int = 64) -> ClipBatch:
    return replace(random_batch(num_frames), targets=(), valid=torch.ones(1, num_frames, height, width) > 0)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_predicts(structure: str) -> None:
    model = tiny_model(STRUCTURES[structure]).eval()
    prediction = predict_video(model, _video(3), (32, 64), (45, 90), 7, EvalConfig(topk=6))
    assert prediction.video_id == 7
    assert len(prediction.tracks) == 6
    scores = [track.score for track in prediction.tracks]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert {track.label for track in prediction.tracks} <= {0, 1, 2}
    assert all(len(track.masks) == 3 for track in prediction.tracks)
    sizes = {tuple(mask["size"]) for track in prediction.tracks for mask in track.masks if mask}
    assert sizes <= {(45, 90)}


@pytest.mark.parametrize("structure", ["synchronous", "frame_only"])
def test_encoding_in_chunks_changes_nothing(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(STRUCTURES[structure]).double().eval()
    video = _video(5)
    video = replace(video, images=video.images.double())
    seen: list[int] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda x, v: seen.append(x.shape[1]) or encode(x, v))  # type: ignore[func-returns-value]
    found = []
    for chunk in (16, 2):
        monkeypatch.setitem(inference.CHUNKS, "cpu", chunk)
        found.append(predict_video(model, video, (32, 64), (32, 64), 0, EvalConfig()))
    assert seen == [5, 2, 2, 1]
    assert [t.masks for t in found[0].tracks] == [t.masks for t in found[1].tracks]
    assert [t.score for t in found[0].tracks] == pytest.approx([t.score for t in found[1].tracks])


class Fixed:
    """A method that predicts chosen class and mask logits, whatever it sees."""

    def __init__(self, class_logits: Tensor, mask_logits: Tensor) -> None:
        self.output = ClipOutput((LayerOutput(video=level_output("video", class_logits, mask_logits)),))

    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        return ClipFeatures((), self.output.mask_features, ())

    def decode(self, features: ClipFeatures, memory: Tensor | None = None) -> tuple[ClipOutput, Tensor | None]:
        return self.output, memory


def _fixed(probabilities: list[list[float]], masks: Tensor, **settings: object) -> VideoPrediction:
    """Probabilities of K + 1 classes per query, masks (Q, T, 8, 16) of an image of 30 x 40 padded to 32 x 64."""
    method = Fixed(torch.tensor(probabilities)[None].log(), masks[None])
    video = _video(masks.shape[1])
    return predict_video(method, video, (30, 40), (60, 80), 0, EvalConfig(**settings))  # type: ignore[arg-type]


def test_masks_come_at_the_original_size_without_the_padding() -> None:
    """Upsampled to the padded input, cropped to the image, resized: cells in the padding are gone."""
    masks = torch.full((2, 2, 8, 16), -9.0)
    masks[0, :, :4, :5] = 9  # pixels 0..15 x 0..19 of the image: a quarter of 32 x 40
    masks[1, :, :, 12:] = 9  # pixels 48..63 lie in the padding
    masks[0, 1] = -9
    first, second = _fixed([[0.9, 0.1], [0.6, 0.4]], masks).tracks
    mask = decode(first.masks[0], 60, 80, "mask")  # type: ignore[arg-type]
    assert mask.shape == (60, 80)
    assert mask[:28, :40].all()  # bilinear upsampling rounds the corner
    assert mask[:32, :36].all()
    assert not mask[32:].any()
    assert not mask[:, 40:].any()
    assert first.masks[1] is None
    assert second.masks == (None, None)


def test_the_best_query_class_pairs_are_kept() -> None:
    masks = torch.zeros(2, 1, 8, 16)
    probabilities = [[0.5, 0.3, 0.2], [0.1, 0.45, 0.45]]
    tracks = _fixed(probabilities, masks, topk=3).tracks
    assert [(track.label, round(track.score, 4)) for track in tracks] == [(0, 0.5), (1, 0.45), (1, 0.3)]
    assert len(_fixed(probabilities, masks, topk=99).tracks) == 4


def test_score_times_mask_quality() -> None:
    masks = torch.full((2, 1, 8, 16), 0.4)
    masks[1] = 4
    tracks = _fixed([[0.6, 0.4], [0.5, 0.5]], masks, score="class_times_mask").tracks
    quality = [0.5 * torch.tensor(4.0).sigmoid().item(), 0.6 * torch.tensor(0.4).sigmoid().item()]
    assert [track.score for track in tracks] == pytest.approx(quality, abs=1e-4)


def test_linking_recovers_a_permutation() -> None:
    torch.manual_seed(0)
    first = torch.randn(5, 8)
    orders = [torch.arange(5), torch.randperm(5), torch.randperm(5)]
    embeddings = torch.stack([first[order] * (t + 1) + 0.01 * torch.randn(5, 8) for t, order in enumerate(orders)])
    wanted = torch.stack([order.argsort() for order in orders])
    assert torch.equal(link_frames(embeddings), wanted)


def test_linking_follows_slow_change() -> None:
    """Each frame continues the one before, not the first: two directions turn by half a circle."""
    angles = torch.linspace(0, torch.pi, 9)
    turning = torch.stack([angles.cos(), angles.sin()], -1)
    embeddings = torch.stack([turning, -turning], 1)
    embeddings[5:] = embeddings[5:].flip(1)
    assert link_frames(embeddings)[:, 0].tolist() == [0] * 5 + [1] * 4


def test_frame_queries_alone_become_tracks() -> None:
    """Class logits are averaged along a track, its masks follow the query that carries it."""
    embeddings = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])[None]
    class_logits = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[4.0, 0.0], [3.0, 0.0]]])[None]
    masks = torch.arange(4.0).view(1, 2, 2, 1, 1)
    frame = replace(level_output("frame", class_logits, masks), embeddings=embeddings)
    logits, mask_embeddings = track_predictions(LayerOutput(frame=frame), 2)
    assert logits[:, 0].tolist() == [2.0, 3.0]
    tracks = torch.einsum("tqc,tchw->qthw", mask_embeddings, frame.mask_features[0])
    assert tracks.flatten(1).tolist() == [[0.0, 3.0], [1.0, 2.0]]


def test_video_queries_predict_where_there_are_any() -> None:
    torch.manual_seed(0)
    video = level_output("video", torch.randn(1, 3, 2), torch.randn(1, 3, 4, 2, 2))
    frame = level_output("frame", torch.randn(1, 4, 5, 2), torch.randn(1, 4, 5, 2, 2))
    logits, mask_embeddings = track_predictions(LayerOutput(frame, video), 4)
    assert torch.equal(logits, video.class_logits[0])
    masks = torch.einsum("tqc,tchw->qthw", mask_embeddings, video.mask_features[0])
    torch.testing.assert_close(masks, video.mask_logits[0])
