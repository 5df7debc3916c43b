from __future__ import annotations

from dataclasses import replace

import torch
from helpers import level_output
from torch import Tensor

from syncvis.online.linking import LinkedFrames, link_frames
from syncvis.outputs import ClipFeatures


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


def test_a_link_continues_where_the_frames_before_ended() -> None:
    embeddings = torch.randn(7, 5, 8, generator=torch.Generator().manual_seed(0))
    whole = link_frames(embeddings)
    before = embeddings[3][whole[3]]
    assert torch.equal(link_frames(embeddings[4:], before), whole[4:])


def test_frame_queries_become_tracks() -> None:
    """Class logits are averaged along a track, its masks follow the query that carries it, in chunks of any length."""
    embeddings = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])[None]
    class_logits = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[4.0, 0.0], [3.0, 0.0]]])[None]
    masks = torch.arange(4.0).view(1, 2, 2, 1, 1)
    frame = replace(level_output("frame", class_logits, masks), embeddings=embeddings)
    for chunks in ([(0, 1)], [(0,), (1,)]):
        outputs = iter([frame.window(chunk) for chunk in chunks])
        stream = LinkedFrames(lambda _, left=outputs: next(left))  # type: ignore[misc]
        for chunk in chunks:
            stream.step(_features(masks[:, list(chunk)]))
        tracks = stream.finish()
        assert torch.equal(tracks.scores, torch.tensor([[2.0, 0.0], [3.0, 0.0]]).softmax(-1)[:, :1])
        assert tracks.mask_logits(torch.arange(2), 0, 2).flatten(1).tolist() == [[0.0, 3.0], [1.0, 2.0]]
        assert tracks.seen.all()


def _features(mask: Tensor) -> ClipFeatures:
    return ClipFeatures((), mask, ())
