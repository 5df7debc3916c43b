from __future__ import annotations

import numpy as np
import pytest

from syncvis.data.sampling import sample_frames


def _draws(length: int, num_frames: int, frame_range: int, count: int = 300) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    return [sample_frames(length, num_frames, frame_range, rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("length", "num_frames", "frame_range"), [(8, 4, 20), (30, 4, 3), (5, 5, 5), (9, 1, 0), (100, 2, 1)]
)
def test_frames_are_sorted_distinct_and_near(length: int, num_frames: int, frame_range: int) -> None:
    for frames in _draws(length, num_frames, frame_range):
        assert list(frames) == sorted(set(frames))
        assert len(frames) == num_frames
        assert 0 <= frames[0] <= frames[-1] < length
        assert frames[-1] - frames[0] <= 2 * frame_range


def test_some_frame_is_within_range_of_all_others() -> None:
    for frames in _draws(40, 4, 5):
        assert any(all(abs(other - reference) <= 5 for other in frames) for reference in frames)


def test_reference_is_uniform_and_every_frame_is_covered() -> None:
    counts = np.bincount([frames[0] for frames in _draws(6, 1, 3, 6000)], minlength=6)
    assert (abs(counts - 1000) < 150).all()
    assert {t for frames in _draws(8, 3, 20) for t in frames} == set(range(8))


def test_too_few_frames_are_all_used_before_any_repeats() -> None:
    for frames in _draws(3, 5, 20):
        assert len(frames) == 5
        assert set(frames) == {0, 1, 2}


@pytest.mark.parametrize("frame_range", [0, 20])
def test_one_frame_is_repeated(frame_range: int) -> None:
    assert set(_draws(1, 4, frame_range)) == {(0, 0, 0, 0)}


def test_range_zero_repeats_the_reference() -> None:
    assert all(len(set(frames)) == 1 for frames in _draws(10, 3, 0))


def test_same_generator_state_gives_the_same_clip() -> None:
    assert _draws(20, 4, 8) == _draws(20, 4, 8)
