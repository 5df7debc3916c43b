from __future__ import annotations

import torch

from syncvis.ops.boxes import boxes_of


def test_boxes_hold_their_masks_and_are_zero_where_there_is_none() -> None:
    masks = torch.zeros(2, 3, 20, 30, dtype=torch.bool)
    masks[0, 0, 4:9, 7:20] = True
    masks[0, 2, 19, 29] = True
    masks[1, 1, 2, 3] = masks[1, 1, 10, 25] = True
    expected = torch.zeros(2, 3, 4)
    expected[0, 0] = torch.tensor([7.0, 4, 20, 9])
    expected[0, 2] = torch.tensor([29.0, 19, 30, 20])
    expected[1, 1] = torch.tensor([3.0, 2, 26, 11])
    assert torch.equal(boxes_of(masks), expected)


def test_one_mask_and_none() -> None:
    assert boxes_of(torch.ones(1, 5, 6, dtype=torch.bool)).tolist() == [[0, 0, 6, 5]]
    assert boxes_of(torch.zeros(0, 3, 5, 6, dtype=torch.bool)).shape == (0, 3, 4)
