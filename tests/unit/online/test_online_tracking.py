"""The stream of tracked frames, on chosen predictions of frame queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from helpers import level_output
from torch import Tensor

from syncvis.online.association import Tracker, TrackerSettings
from syncvis.online.detections import Detections, confident
from syncvis.online.memory import SimilarityGuided
from syncvis.online.tracking import TrackedFrames
from syncvis.outputs import ClipFeatures, LevelOutput, VideoTracks

LOOKS = 6 * torch.eye(4)
NOTHING = -20.0


def _frames(video: Sequence[Sequence[int | None]], scores: Tensor) -> LevelOutput:
    """Each query of a frame looks like one of four objects, or finds nothing; scores (T, Q) are logits of class 0.

    The mask of query q in frame t covers cell 10 t + q.
    """
    logits = torch.zeros(1, *scores.shape, 3)
    logits[0, ..., 0] = scores
    logits[0, ..., 2] = torch.tensor([[0.0 if number is not None else -NOTHING for number in row] for row in video])
    masks = torch.full((1, *scores.shape, 8, 16), -1.0)
    for t, row in enumerate(video):
        for q in range(len(row)):
            masks[0, t, q].view(-1)[10 * t + q] = 1
    output = level_output("frame", logits, masks)
    looks = torch.stack([torch.stack([LOOKS[0] if n is None else LOOKS[n] for n in row]) for row in video])
    return LevelOutput("frame", looks[None], logits, output.mask_embeddings, output.mask_features, None)


def _tracks(output: LevelOutput, chunk: int, identity: Tensor | None = None) -> VideoTracks:
    settings = TrackerSettings(match=0.3, open_first=0.3, open=0.3, patience=5)
    look = torch.eye(4) if identity is None else identity
    position = [0]

    def next_frames(features: ClipFeatures) -> LevelOutput:
        start = position[0]
        position[0] += features.num_frames
        return output.window(tuple(range(start, position[0])))

    def select(detections: Detections) -> Detections:
        return confident(detections, 0.1)

    stream = TrackedFrames(next_frames, lambda x: x @ look, select, Tracker(settings, SimilarityGuided))
    frames = output.mask_features.shape[1]
    for start in range(0, frames, chunk):
        part = output.mask_features[:, start : start + chunk]
        stream.step(ClipFeatures((), part, ()))
    return stream.finish()


VIDEO = [[0, 1, None], [2, 0, 1], [2, None, 0], [1, 0, 2]]
"""Object 1 is missing in frame 2, object 2 comes in frame 1."""
SCORES = torch.tensor([[3.0, 2.0, 0.0], [1.0, 4.0, 2.5], [2.0, 0.0, 1.0], [3.5, 1.5, 0.5]])
CARRIERS = [[0, 1, None], [1, 2, 0], [2, None, 0], [1, 0, 2]]


def test_tracks_follow_their_objects_through_the_queries() -> None:
    output = _frames(VIDEO, SCORES)
    for chunk in (1, 2, 4):
        tracks = _tracks(output, chunk)
        assert tracks.seen.tolist() == [[query is not None for query in row] for row in CARRIERS]
        for t, row in enumerate(CARRIERS):
            for r, query in enumerate(row):
                if query is not None:
                    mask = tracks.mask_logits(torch.tensor([r]), t, t + 1)[0, 0]
                    assert (mask > 0).flatten().nonzero().tolist() == [[10 * t + query]]
        means = torch.tensor([[9.5 / 4, 0.0, 0.0], [8.0 / 3, 0.0, 0.0], [3.5 / 3, 0.0, 0.0]])
        torch.testing.assert_close(tracks.scores, means.softmax(-1)[:, :-1])


def test_the_tracker_compares_what_the_head_makes_of_the_queries() -> None:
    """A head that turns all embeddings alike changes no track; one that sees no difference mixes them up."""
    output = _frames(VIDEO, SCORES)
    wanted = _tracks(output, 1)
    assert torch.equal(_tracks(output, 1, torch.eye(4)[[1, 0, 3, 2]]).mask_embeddings, wanted.mask_embeddings)
    assert not torch.equal(_tracks(output, 1, torch.zeros(4, 4)).mask_embeddings, wanted.mask_embeddings)


def test_a_video_without_a_track() -> None:
    tracks = _tracks(_frames([[None, None]] * 2, torch.zeros(2, 2)), 2)
    assert (tracks.scores.shape, tracks.seen.shape, tracks.mask_embeddings.shape) == ((0, 2), (2, 0), (2, 0, 2))


def test_the_confidence_is_that_of_the_best_class() -> None:
    """Two classes of 0.2 each are no class above the threshold of 0.3."""
    output = _frames([[0, 1]], torch.zeros(1, 2))
    probabilities = torch.tensor([[[0.2, 0.2, 0.6], [0.05, 0.35, 0.6]]])
    tracks = _tracks(replace(output, class_logits=probabilities.log()[None]), 1)
    torch.testing.assert_close(tracks.scores, probabilities[:, 1, :2])
