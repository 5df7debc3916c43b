"""A video that is decoded part by part, against the decoder on all of its frames at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import random_batch, tiny_model
from torch import Tensor

from syncvis.config import AGGREGATIONS
from syncvis.errors import ConfigError
from syncvis.models.attention import Attention, RunningAttention
from syncvis.models.decoder import QueryDecoder, seen_or_all
from syncvis.models.stored import StoredFrames, waiting
from syncvis.models.streamed import StreamedDecoder
from syncvis.outputs import ClipFeatures

PARTS = [(7,), (2, 2, 2, 1), (1, 1, 1, 1, 1, 1, 1)]
"""Frames of each part of a video of seven."""


def _scores(size: float) -> tuple[Attention, Tensor, Tensor, Tensor]:
    """An attention with scores of a size, (2, 5, 8) queries, and (2, 12, 8) keys and values."""
    torch.manual_seed(0)
    attention = Attention(8, 2).double()
    query, keys, values = (torch.randn(2, length, 8).double() for length in (5, 12, 12))
    return attention, size * query, keys, values


@pytest.mark.parametrize("size", [1.0, 300.0], ids=["soft", "nearly one key"])
@pytest.mark.parametrize("part", [1, 5, 12])
def test_running_attention_is_attention(part: int, size: float) -> None:
    attention, query, keys, values = _scores(size)
    visible = torch.rand(2, 5, 12) > 0.6
    visible[:, 0] = False  # sees nothing: reads all
    visible[:, 1] = torch.arange(12) == 11  # sees something in the last part only
    visible[:, 2] = torch.arange(12) == 0
    visible[:, 3] = True
    running = RunningAttention(attention, query)
    for k, v, seen in zip(keys.split(part, 1), values.split(part, 1), visible.split(part, 2), strict=True):
        running.read(k, v, seen)
    wanted = attention.attend(query, keys, values, seen_or_all(visible))
    torch.testing.assert_close(running.result(), wanted, rtol=1e-10, atol=1e-12)


def _features(changes: dict[str, Any]) -> tuple[QueryDecoder, ClipFeatures]:
    model = tiny_model(changes).double().eval()
    assert isinstance(model.decoder, QueryDecoder)
    batch = random_batch(7)
    with torch.no_grad():
        return model.decoder, model.encode(batch.images.double(), batch.valid)


def _parts(features: ClipFeatures, sizes: tuple[int, ...], dtype: torch.dtype | None = None) -> list[StoredFrames]:
    frames = [tuple(x.tolist()) for x in torch.arange(sum(sizes)).split(list(sizes))]
    return [StoredFrames.of(features.window(part), dtype) for part in frames]


DECODERS: dict[str, dict[str, Any]] = {
    "video only": {"method.structure": "video_only", "sync": None},
    "weights of their own": {"model.decoder.shared": False},
    "without time": {"model.decoder.time_code": False},
    "no exchange": {"sync": None},
    **{name: {"sync.order": name} for name in ("video_first", "frame_to_video", "video_to_frame")},
    **{name: {"sync.aggregation": name} for name in AGGREGATIONS},
}


@pytest.mark.parametrize("sizes", PARTS, ids=len)
@pytest.mark.parametrize("changes", DECODERS.values(), ids=DECODERS)
@torch.no_grad()
def test_parts_give_what_all_frames_give(changes: dict[str, Any], sizes: tuple[int, ...]) -> None:
    decoder, features = _features(changes)
    found, wanted = StreamedDecoder(decoder, _parts(features, sizes))(), decoder(features).final
    assert found.keys() == {level.level for level in wanted.levels()}
    for level in wanted.levels():
        for name, value in vars(found[level.level]).items():
            torch.testing.assert_close(value, getattr(level, name), rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_a_guide_that_is_not_kept_is_made_again() -> None:
    _, features = _features({})
    (part,) = _parts(features, (7,))
    assert len(part.guides) == len(features.guides) - 1
    for scale, guide in enumerate(features.guides):
        torch.testing.assert_close(part.guide(scale), guide)
        assert torch.equal(part.level(scale), features.levels[scale])
    clip = StoredFrames.of(replace(features, clip_mask=features.mask + 1), clip=True)
    assert torch.equal(clip.guide(2), features.guides[2])
    assert torch.equal(torch.stack(clip.mask), features.mask[0] + 1)


@torch.no_grad()
def test_features_in_half_precision() -> None:
    """Rounding to eleven bits, and no other type in what is computed."""
    decoder, features = _features({})
    (part,) = _parts(features, (7,), torch.float16)
    assert {x.dtype for x in (*part.levels, *part.guides, *part.mask)} == {torch.float16}
    assert {part.level(0).dtype, part.guide(0).dtype, part.guide(2).dtype} == {torch.float64}
    torch.testing.assert_close(part.level(2), features.levels[2], rtol=2**-11, atol=1e-7)
    exact, rounded = (StreamedDecoder(decoder, _parts(features, (7,), x))()["video"] for x in (None, torch.float16))
    difference = F.l1_loss(rounded.class_logits, exact.class_logits)
    assert 0 < difference < 1e-2 * exact.class_logits.std()


def test_features_that_do_not_fit_half_precision() -> None:
    mask = torch.ones(1, 2, 3, 4, 4)
    assert torch.equal(torch.stack(waiting(mask, torch.float16)), mask[0].half())
    mask[0, 1, 2, 3, 3] = 7e4
    with pytest.raises(ConfigError, match=r"eval\.features.*float16.*set eval\.features=full"):
        waiting(mask, torch.float16)
    assert torch.equal(torch.stack(waiting(mask)), mask[0])
