from __future__ import annotations

import numpy as np
import pytest

from syncvis.config import DataConfig
from syncvis.data.sampling import SAMPLERS, sample_frames


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


def _sample(name: str, length: int, num_frames: int, frame_range: int, count: int = 400) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    return [SAMPLERS[name](length, num_frames, frame_range, rng) for _ in range(count)]


def test_the_config_names_every_sampler() -> None:
    for name in SAMPLERS:
        assert DataConfig.model_validate({"root": "", "sampling": name}).sampling == name
    assert set(DataConfig.model_fields["sampling"].annotation.__args__) == set(SAMPLERS)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("length", "num_frames", "frame_range"), [(1, 4, 20), (2, 5, 20), (30, 6, 2), (9, 1, 3)])
def test_every_sampler_gives_frames_of_the_video(name: str, length: int, num_frames: int, frame_range: int) -> None:
    for frames in _sample(name, length, num_frames, frame_range, 50):
        assert len(frames) == num_frames
        assert all(type(t) is int and 0 <= t < length for t in frames)
    assert _sample(name, length, num_frames, frame_range) == _sample(name, length, num_frames, frame_range)


def test_replacement_repeats_other_frames_but_not_the_reference() -> None:
    clips = _sample("replacement", 30, 5, 4)
    assert all(list(frames) == sorted(frames) for frames in clips)
    assert any(len(set(frames)) < 5 for frames in clips)
    assert all(any(frames.count(r) == 1 and max(abs(t - r) for t in frames) <= 4 for r in frames) for frames in clips)
    assert all(set(frames) != {frames[0]} for frames in clips)
    pairs = _sample("replacement", 40, 2, 20)
    assert all(a != b for a, b in pairs)


def test_replacement_works_with_a_range_that_is_shorter_than_the_clip() -> None:
    for frames in _sample("replacement", 30, 8, 1):
        assert max(frames) - min(frames) <= 2
        assert 2 <= len(set(frames)) <= 3


def test_others_are_uniform_over_the_range() -> None:
    pairs = _sample("key_first", 5, 2, 20, 4000)
    counts = np.zeros((5, 5))
    for key, other in pairs:
        counts[key, other] += 1
    assert (counts.diagonal() == 0).all()
    assert (abs(counts[~np.eye(5, dtype=bool)] - 200) < 60).all()


def test_the_key_frame_comes_first() -> None:
    pairs = _sample("key_first", 30, 2, 10)
    assert {key > other for key, other in pairs} == {True, False}
    assert {key for key, _ in pairs} == set(range(30))


def test_consecutive_frames_start_everywhere() -> None:
    clips = _sample("consecutive", 7, 5, 2)
    assert set(clips) == {tuple(range(start, start + 5)) for start in range(3)}
    assert set(_sample("consecutive", 3, 5, 2)) == {(0, 1, 2, 2, 2)}
