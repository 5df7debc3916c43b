from __future__ import annotations

from math import ceil, comb

import pytest
from helpers import tiny_config

from syncvis.config import WINDOWS
from syncvis.methods.assemble import subclip_plan
from syncvis.structures import Window
from syncvis.sync.subclips import chunks, neighbours, strided, subclip_windows

COUNTS = {
    "neighbours": lambda frames, size: frames - size + 1,
    "all_pairs": comb,
    "chunks": lambda frames, size: ceil(frames / size),
    "strided": lambda frames, size: ceil((frames - size) / STEP[size]) + 1,
}
STEP = {size: max(size - 1, 1) for size in range(1, 10)}


def _windows(num_frames: int, size: int, kind: str, weights: str, factor: float) -> list[Window]:
    return subclip_windows(num_frames, size, kind, weights, factor, STEP[size] if kind == "strided" else None)


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("num_frames", range(1, 9))
@pytest.mark.parametrize("size", range(1, 10))
def test_windows_cover_every_frame(kind: str, num_frames: int, size: int) -> None:
    windows = _windows(num_frames, size, kind, "uniform", 0.5)
    if num_frames <= size:
        assert windows == []
        return
    assert len(windows) == COUNTS[kind](num_frames, size)
    assert {t for window in windows for t in window.frames} == set(range(num_frames))
    assert all(window.frames == tuple(sorted(set(window.frames))) for window in windows)
    lengths = {len(window.frames) for window in windows}
    assert lengths == {size} or (kind == "chunks" and max(lengths) == size)
    assert len({window.name for window in windows}) == len(windows)
    assert {window.weight for window in windows} == {0.5}


def test_window_sets_by_hand() -> None:
    assert [w.frames for w in subclip_windows(4, 2, "neighbours", "uniform", 1)] == [(0, 1), (1, 2), (2, 3)]
    assert [w.frames for w in subclip_windows(3, 2, "all_pairs", "uniform", 1)] == [(0, 1), (0, 2), (1, 2)]
    assert [w.frames for w in subclip_windows(5, 2, "chunks", "uniform", 1)] == [(0, 1), (2, 3), (4,)]
    assert [w.name for w in subclip_windows(3, 2, "neighbours", "uniform", 1)] == ["subclip0-1", "subclip1-2"]


@pytest.mark.parametrize(
    ("num_frames", "size", "step", "expected"),
    [
        (7, 3, 2, [(0, 1, 2), (2, 3, 4), (4, 5, 6)]),
        (6, 3, 2, [(0, 1, 2), (2, 3, 4), (3, 4, 5)]),  # the last one ends with the clip
        (5, 2, 2, [(0, 1), (2, 3), (3, 4)]),
        (3, 2, 5, [(0, 1), (1, 2)]),
        (4, 4, 1, [(0, 1, 2, 3)]),
    ],
)
def test_strided_windows_are_all_full(num_frames: int, size: int, step: int, expected: list[tuple[int, ...]]) -> None:
    assert strided(num_frames, size, step) == expected


@pytest.mark.parametrize("num_frames", range(1, 9))
@pytest.mark.parametrize("size", range(1, 5))
def test_neighbours_are_one_frame_apart_and_chunks_a_window(num_frames: int, size: int) -> None:
    if num_frames >= size:
        assert strided(num_frames, size, 1) == neighbours(num_frames, size)
    if num_frames and num_frames % size == 0:
        assert strided(num_frames, size, size) == chunks(num_frames, size)


@pytest.mark.parametrize("kind", WINDOWS)
def test_edges_weigh_a_quarter(kind: str) -> None:
    weights = [w.weight for w in _windows(7, 2, kind, "edges", 2.0)]
    assert weights == [0.5] + [2.0] * (len(weights) - 2) + [0.5]


def test_the_plan_of_a_config() -> None:
    changes = {"subclips.size": 3, "subclips.windows": "chunks", "subclips.weights": "edges", "subclips.factor": 0.8}
    plan = subclip_plan(tiny_config(changes))
    assert plan(3) == []
    assert plan(4) == [Window("subclip0-1-2", (0, 1, 2), 0.2), Window("subclip3", (3,), 0.2)]
    assert subclip_plan(tiny_config({"subclips": None}))(4) == []
    strided_plan = subclip_plan(tiny_config({"subclips.windows": "strided", "subclips.step": 2}))
    assert [window.frames for window in strided_plan(5)] == [(0, 1), (2, 3), (3, 4)]


@pytest.mark.parametrize("frames", [(), (1, 0), (0, 0), (0, 3), (-1, 0), (0, 1)])
def test_a_window_set_that_gives_nonsense(monkeypatch: pytest.MonkeyPatch, frames: tuple[int, ...]) -> None:
    monkeypatch.setattr("syncvis.sync.subclips.chunks", lambda num_frames, size: [(0, 1), frames])
    with pytest.raises(ValueError, match="the window set chunks gave frames"):
        subclip_windows(3, 2, "chunks", "uniform", 1)
