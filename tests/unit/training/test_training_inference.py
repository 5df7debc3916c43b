from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import STRUCTURES, random_batch, tiny_model
from torch import Tensor

from syncvis.config import EvalConfig
from syncvis.online.stream import WholeVideo
from syncvis.ops.masks import decode
from syncvis.outputs import ClipFeatures, VideoTracks
from syncvis.structures import ClipBatch, VideoPrediction
from syncvis.training import inference
from syncvis.training.inference import predict_video


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
    """A method that finds chosen tracks, whatever it sees."""

    def __init__(self, scores: Tensor, mask_logits: Tensor, seen: Tensor, sure_at_input: bool = False) -> None:
        tracks, num_frames = mask_logits.shape[:2]
        codes = torch.eye(tracks).expand(num_frames, -1, -1)
        self.tracks = VideoTracks(scores, codes, seen, mask_logits.transpose(0, 1), sure_at_input)

    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        return ClipFeatures((), torch.zeros(1, images.shape[1], 1, 1, 1), ())

    def stream(self) -> WholeVideo:
        return WholeVideo(lambda features: self.tracks)


def _fixed(
    scores: list[list[float]] | Tensor,
    masks: Tensor,
    seen: Tensor | None = None,
    sure_at_input: bool = False,
    **settings: object,
) -> VideoPrediction:
    """Scores of K classes per track, masks (R, T, 8, 16) of an image of 30 x 40 padded to 32 x 64."""
    everywhere = torch.ones(masks.shape[1], len(masks), dtype=torch.bool)
    method = Fixed(torch.as_tensor(scores), masks, everywhere if seen is None else seen, sure_at_input)
    video = _video(masks.shape[1])
    return predict_video(method, video, (30, 40), (60, 80), 0, EvalConfig(**settings))  # type: ignore[arg-type]


def test_masks_come_at_the_original_size_without_the_padding() -> None:
    """Upsampled to the padded input, cropped to the image, resized: cells in the padding are gone."""
    masks = torch.full((2, 2, 8, 16), -9.0)
    masks[0, :, :4, :5] = 9  # pixels 0..15 x 0..19 of the image: a quarter of 32 x 40
    masks[1, :, :, 12:] = 9  # pixels 48..63 lie in the padding
    masks[0, 1] = -9
    first, second = _fixed([[0.9], [0.6]], masks).tracks
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
    probabilities = [[0.5, 0.3], [0.1, 0.45]]
    tracks = _fixed(probabilities, masks, topk=3).tracks
    assert [(track.label, round(track.score, 4)) for track in tracks] == [(0, 0.5), (1, 0.45), (1, 0.3)]
    assert len(_fixed(probabilities, masks, topk=99).tracks) == 4


def test_score_times_mask_quality() -> None:
    masks = torch.full((2, 1, 8, 16), 0.4)
    masks[1] = 4
    tracks = _fixed([[0.6], [0.5]], masks, score="class_times_mask").tracks
    quality = [0.5 * torch.tensor(4.0).sigmoid().item(), 0.6 * torch.tensor(0.4).sigmoid().item()]
    assert [track.score for track in tracks] == pytest.approx(quality, abs=1e-4)


@pytest.mark.parametrize("sure_at_input", [False, True])
def test_the_quality_is_measured_at_the_size_that_the_method_says(sure_at_input: bool) -> None:
    """The mean over the foreground of the masks as they come, or of those of the image of 30 x 40."""
    masks = torch.randn(1, 2, 8, 16, generator=torch.Generator().manual_seed(0))
    found = _fixed([[1.0]], masks, sure_at_input=sure_at_input, score="class_times_mask").tracks[0].score
    image = F.interpolate(masks, (32, 64), mode="bilinear", align_corners=False)[..., :30, :40]
    seen = image if sure_at_input else F.interpolate(image, (60, 80), mode="bilinear", align_corners=False)
    assert found == pytest.approx(seen[seen > 0].sigmoid().mean().item(), rel=1e-5)
    assert abs(found - image[image > 0].sigmoid().mean().item()) > 1e-3 or sure_at_input


def test_an_absent_track_has_no_mask_and_no_share_in_the_quality() -> None:
    masks = torch.full((1, 2, 8, 16), 4.0)
    masks[0, 1] = 0.4
    (track,) = _fixed([[1.0]], masks, torch.tensor([[True], [False]]), score="class_times_mask").tracks
    assert track.masks[0] is not None
    assert track.masks[1] is None
    assert track.score == pytest.approx(torch.tensor(4.0).sigmoid().item(), abs=1e-4)


def test_a_video_without_tracks() -> None:
    assert _fixed(torch.zeros(0, 2), torch.zeros(0, 3, 8, 16), torch.zeros(3, 0, dtype=torch.bool)).tracks == ()
