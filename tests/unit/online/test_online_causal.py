from __future__ import annotations

import pytest
import torch
from helpers import MODULES, method_model, random_batch

from syncvis.methods.minvis import MinVIS
from syncvis.online.causal import CausalFrames
from syncvis.outputs import ClipFeatures, ClipOutput, LayerOutput, LevelOutput


def _features(num_frames: int) -> ClipFeatures:
    """Frame t has the number t everywhere."""
    numbers = torch.arange(num_frames).float().view(1, -1, 1, 1, 1)
    return ClipFeatures((numbers,), numbers, (numbers,))


def _sum_of_the_frames_before(features: ClipFeatures) -> ClipOutput:
    """One query whose class logit is the sum of the numbers up to its frame: what it sees of other frames."""
    x = features.levels[0].cumsum(1)[..., 0]
    return ClipOutput((LayerOutput(frame=LevelOutput("frame", x, x, x, features.mask, None)),))


@pytest.mark.parametrize("chunks", [[7], [1] * 7, [2, 5], [3, 3, 1]])
@pytest.mark.parametrize("window", [1, 2, 3, 20])
def test_each_frame_is_the_last_of_a_window(window: int, chunks: list[int]) -> None:
    frames, video, start = CausalFrames(_sum_of_the_frames_before, window), _features(7), 0
    found: list[float] = []
    for length in chunks:
        found += frames(video.window(tuple(range(start, start + length)))).class_logits.flatten().tolist()
        start += length
    assert found == [sum(range(max(0, t - window + 1), t + 1)) for t in range(7)]


def test_frames_that_see_nothing_of_each_other_come_as_they_are() -> None:
    calls: list[int] = []

    def decode(features: ClipFeatures) -> ClipOutput:
        calls.append(features.num_frames)
        return _sum_of_the_frames_before(features)

    CausalFrames(decode, None)(_features(4))
    assert calls == [4]


@pytest.mark.parametrize(
    ("modules", "window", "lengths", "levels"),
    [
        ("none", None, [5], ["frame"]),
        ("+SEO", None, [5], ["frame"]),
        ("+both", None, [1, 2, 3, 3, 3], ["frame", "video"]),  # data.frames
        ("+both", 2, [1, 2, 2, 2, 2], ["frame", "video"]),
    ],
)
def test_video_queries_are_decoded_where_frames_read_them(
    modules: str, window: int | None, lengths: list[int], levels: list[str]
) -> None:
    model = method_model("minvis", MODULES[modules] | {"method.window": window}).eval()
    assert isinstance(model, MinVIS)
    assert list(model.decoder.query_sets) == (["frame"] if modules == "none" else ["frame", "video"])
    batch, seen = random_batch(5), []
    model.decoder.register_forward_hook(lambda _, args, output: seen.append((args[0].num_frames, output.final)))
    stream = model.stream()
    stream.step(model.encode(batch.images, batch.valid))
    assert [frames for frames, _ in seen] == lengths
    assert all([output.level for output in final.levels()] == levels for _, final in seen)
