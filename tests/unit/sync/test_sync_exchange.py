"""Selection scores by hand, and who reads what from whom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import level_output
from torch import Tensor, nn

from syncvis.models.attention import Attention, FeedForward
from syncvis.outputs import LayerOutput, LevelOutput, Queries
from syncvis.structures import Level
from syncvis.sync.aggregation import class_prediction, mask_similarity, query_similarity, select
from syncvis.sync.module import READERS, Exchange, QuerySync


def _logits(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def test_class_prediction_adds_the_two_best_classes_without_no_object() -> None:
    logits = torch.stack([_logits(0.1, 0.2, 0.3, 0.4), _logits(0.05, 0.03, 0.02, 0.9), _logits(0.6, 0.3, 0.05, 0.05)])
    source = level_output("frame", logits[None, None], torch.zeros(1, 1, 3, 2, 2))
    torch.testing.assert_close(class_prediction(source, source), torch.tensor([[[0.5, 0.08, 0.9]]]))


def test_class_prediction_of_one_class() -> None:
    source = level_output("video", _logits(0.3, 0.7)[None, None], torch.zeros(1, 1, 2, 2, 2))
    torch.testing.assert_close(class_prediction(source, source), torch.full((1, 2, 1), 0.3))


def _embedded(level: Level, embeddings: Tensor) -> LevelOutput:
    lead = embeddings.shape[:-1]
    return LevelOutput(
        level, embeddings, torch.zeros(*lead, 3), torch.zeros(*lead, 1), *[torch.zeros(1, 2, 1, 2, 2)] * 2
    )


def test_query_similarity_is_the_largest_cosine_of_the_frame() -> None:
    frame = _embedded("frame", torch.tensor([[[[2.0, 0.0], [1.0, 1.0]], [[0.0, -3.0], [-1.0, 0.0]]]]))
    video = _embedded("video", torch.tensor([[[3.0, 4.0]]]))
    diagonal = 0.7 * 2**0.5
    torch.testing.assert_close(query_similarity(frame, video), torch.tensor([[[0.6, diagonal], [-0.8, -0.6]]]))
    torch.testing.assert_close(query_similarity(video, frame), torch.tensor([[[diagonal], [-0.6]]]))


def test_mask_similarity_is_the_largest_soft_iou_of_the_frame() -> None:
    sure = 40.0
    frame_masks = torch.tensor([[[[sure, sure, -sure, -sure]], [[-sure, -sure, -sure, sure]]]])[None]  # 1,1,Q2,1,4
    video_masks = torch.tensor([[[[sure, -sure, -sure, -sure]]]])[None]  # 1,Q1,T1,1,4
    frame = level_output("frame", torch.zeros(1, 1, 2, 3), frame_masks.view(1, 1, 2, 1, 4))
    video = level_output("video", torch.zeros(1, 1, 3), video_masks.view(1, 1, 1, 1, 4))
    torch.testing.assert_close(mask_similarity(frame, video), torch.tensor([[[0.5, 0.0]]]))
    torch.testing.assert_close(mask_similarity(video, frame), torch.tensor([[[0.5]]]))


def test_select_takes_the_best_of_each_frame_in_ascending_order() -> None:
    score = torch.tensor([[[0.1, 0.9, 0.5, 0.2], [0.8, 0.1, 0.2, 0.9]]])
    unread = level_output("video", torch.zeros(1, 4, 3), torch.zeros(1, 4, 2, 1, 1))
    assert select(lambda source, reader: score, unread, unread, 2).tolist() == [[[1, 2], [0, 3]]]
    assert select(lambda source, reader: score, unread, unread, 9).tolist() == [[[0, 1, 2, 3]] * 2]


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 2), (1, 2, 4, 1), (1, 2, 3)], ids=str)
def test_a_strategy_that_scores_something_else_is_refused(shape: tuple[int, ...]) -> None:
    unread = level_output("video", torch.zeros(1, 4, 3), torch.zeros(1, 4, 2, 1, 1))
    with pytest.raises(ValueError, match=r"gave .*, not \(B, T, Q\) = \(1, 2, 4\)"):
        select(lambda source, reader: torch.zeros(shape), unread, unread, 2)


def _exchange(momentum: float) -> Exchange:
    return Exchange(Attention(8, 2), FeedForward(8, 16), momentum)


def test_exchange_is_the_formula() -> None:
    torch.manual_seed(0)
    exchange = _exchange(0.3)
    z, references = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    read = exchange.attention(exchange.ffn(z), references, references)
    torch.testing.assert_close(exchange(z, references), 0.7 * z + 0.3 * read)


class Probe(nn.Module):
    """Stands in for an exchange: remembers its references and adds a constant."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant
        self.references: Tensor | None = None

    def forward(self, z: Tensor, references: Tensor) -> Tensor:
        self.references = references
        return z + self.constant


# Two frames; frame query 1 is best in frame 0, frame query 0 in frame 1. Video query 1 is best in both.
FRAME_QUERIES = torch.tensor([[[[10.0], [11.0]], [[20.0], [21.0]]]])
VIDEO_QUERIES = torch.tensor([[[30.0], [31.0], [32.0]]])


def _output() -> LayerOutput:
    poor, good = _logits(0.1, 0.1, 0.8), _logits(0.4, 0.4, 0.2)
    frame = torch.stack([torch.stack([poor, good]), torch.stack([good, poor])])[None]
    video = torch.stack([poor, good, poor])[None]
    return LayerOutput(
        level_output("frame", frame, torch.zeros(1, 2, 2, 2, 2)),
        level_output("video", video, torch.zeros(1, 3, 2, 2, 2)),
    )


def _run(order: str) -> tuple[Queries, dict[str, Any]]:
    probes = {level: Probe(100) for level in READERS[order]}
    sync = QuerySync(probes, class_prediction, num_selected=1)  # type: ignore[arg-type]
    queries = sync(Queries(FRAME_QUERIES, VIDEO_QUERIES), _output())
    return queries, {level: probe.references for level, probe in probes.items()}


@pytest.mark.parametrize(
    ("order", "read_by_video", "read_by_frame"),
    [
        ("frame_first", [11, 20], [131, 131]),
        ("video_first", [111, 120], [31, 31]),
        ("frame_to_video", [11, 20], None),
        ("video_to_frame", None, [31, 31]),
    ],
)
def test_who_reads_what(order: str, read_by_video: list[int] | None, read_by_frame: list[int] | None) -> None:
    """The second reader sees what the first one has become; the best query of each frame is read."""
    queries, references = _run(order)
    assert queries.frame is not None
    assert queries.video is not None
    for level, wanted, before, after in (
        ("video", read_by_video, VIDEO_QUERIES, queries.video),
        ("frame", read_by_frame, FRAME_QUERIES, queries.frame),
    ):
        assert torch.equal(after, before if wanted is None else before + 100)
        if wanted is not None:
            shape = (1, 2, 1) if level == "video" else (2, 1, 1)
            assert references[level].shape == shape
            assert references[level].flatten().tolist() == wanted


def test_gradient_flows_into_what_is_read() -> None:
    torch.manual_seed(0)
    sync = QuerySync({"video": _exchange(0.5)}, class_prediction, num_selected=1)
    frame = torch.randn(1, 2, 2, 8, requires_grad=True)
    video = sync(Queries(frame, torch.randn(1, 3, 8)), _output()).video
    assert video is not None
    video.square().sum().backward()
    assert frame.grad is not None
    assert frame.grad.any(-1).tolist() == [[[False, True], [True, False]]]
