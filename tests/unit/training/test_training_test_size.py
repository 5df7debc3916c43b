"""The size of videos in evaluation is that of the config's test keys, not of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import tiny_config, tiny_model

from syncvis.data.ytvis import VideoDataset
from syncvis.training.validation import predict_one


@pytest.mark.parametrize(("test_max_size", "width"), [(1333, 96), (40, 64)])
def test_the_long_side_is_bounded_by_test_max_size(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch, test_max_size: int, width: int
) -> None:
    """Videos of 32 x 48 at short side 48: 48 x 72, or 27 x 40 where 40 is the bound; then padded to 32s."""
    config = tiny_config({"data.test_short_side": 48, "data.test_max_size": test_max_size, "data.max_size": 20})
    dataset = VideoDataset.load(tiny_data, "valid.json")
    model = tiny_model().eval()
    seen: list[torch.Size] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images, valid: (seen.append(images.shape), encode(images, valid))[1])
    predict_one(model, dataset, dataset.videos[0], config, torch.device("cpu"))
    assert {shape[-1] for shape in seen} == {width}
