from __future__ import annotations

import torch
from torch import Tensor

from syncvis.online.detections import Detections, confident, distinct, mask_ious


def _boxes(*spans: tuple[int, int]) -> Tensor:
    """Masks (D, 2, 12) that cover some columns."""
    masks = torch.zeros(len(spans), 2, 12, dtype=torch.bool)
    for mask, (left, right) in zip(masks, spans, strict=True):
        mask[:, left:right] = True
    return masks


def _detections(scores: list[float], inside: Tensor | None = None) -> Detections:
    values = torch.tensor(scores)
    inside = _boxes(*((i, i + 1) for i in range(len(scores)))) if inside is None else inside
    return Detections.of(values, torch.stack([values, -values], 1), torch.eye(len(scores)), inside)


def test_the_confident_ones_come_best_first() -> None:
    found = confident(_detections([0.2, 0.9, 0.1, 0.5]), 0.15)
    assert found.query.tolist() == [1, 3, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.5, 0.2]))
    torch.testing.assert_close(found.classes[:, 1], -found.scores)
    assert found.embeddings.argmax(1).tolist() == [1, 3, 0]
    assert found.inside[:, 0].int().argmax(1).tolist() == [1, 3, 0]


def test_a_score_at_the_threshold_is_not_above_it_and_the_best_stays() -> None:
    assert confident(_detections([0.5, 0.75, 0.25]), 0.5).query.tolist() == [1]
    assert confident(_detections([0.5, 0.75, 0.25]), 0.9).query.tolist() == [1]


def test_overlaps_by_hand() -> None:
    ious = mask_ious(_boxes((0, 4), (2, 6), (8, 9), (0, 0), (0, 0)))
    wanted = torch.eye(5)
    wanted[0, 1] = wanted[1, 0] = 4 / 12
    wanted[3, 4] = wanted[4, 3] = 1
    torch.testing.assert_close(ious, wanted, atol=1e-5, rtol=0)


def test_a_suppressed_mask_suppresses_none() -> None:
    """Neighbours overlap by 3/5: the second goes, so that the third stays although it overlaps with the second."""
    masks = _boxes((0, 4), (1, 5), (2, 6), (8, 12))
    detections = _detections([0.9, 0.8, 0.7, 0.6], masks)
    assert distinct(detections, 0.5).query.tolist() == [0, 2, 3]
    assert distinct(detections, 0.3).query.tolist() == [0, 3]
    assert distinct(detections, 0.7).query.tolist() == [0, 1, 2, 3]


def test_an_overlap_at_the_threshold_stays() -> None:
    exactly = float(mask_ious(_boxes((0, 4), (1, 5)))[0, 1])
    assert len(distinct(_detections([0.9, 0.8], _boxes((0, 4), (1, 5))), exactly)) == 2


def test_counts_of_large_masks_are_exact_in_half_precision() -> None:
    masks = torch.ones(2, 300, 300, dtype=torch.bool)
    masks[1, :150] = False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert abs(float(mask_ious(masks)[0, 1]) - 0.5) < 1e-6
