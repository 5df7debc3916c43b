from __future__ import annotations

from math import ceil, comb

import pytest
from helpers import tiny_config

from syncvis.methods.assemble import subclip_plan
from syncvis.structures import Window
from syncvis.sync.subclips import WINDOW_SETS, subclip_windows

COUNTS = {
    "neighbours": lambda frames, size: frames - size + 1,
    "all_pairs": comb,
    "chunks": lambda frames, size: ceil(frames / size),
}


@pytest.mark.parametrize("kind", WINDOW_SETS)
@pytest.mark.parametrize("num_frames", range(1, 9))
@pytest.mark.parametrize("size", range(1, 10))
def test_windows_cover_every_frame(kind: str, num_frames: int, size: int) -> None:
    windows = subclip_windows(num_frames, size, kind, "uniform", 0.5)
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


@pytest.mark.parametrize("kind", WINDOW_SETS)
def test_edges_weigh_a_quarter(kind: str) -> None:
    weights = [w.weight for w in subclip_windows(7, 2, kind, "edges", 2.0)]
    assert weights == [0.5] + [2.0] * (len(weights) - 2) + [0.5]


def test_the_plan_of_a_config() -> None:
    changes = {"subclips.size": 3, "subclips.windows": "chunks", "subclips.weights": "edges", "subclips.factor": 0.8}
    plan = subclip_plan(tiny_config(changes))
    assert plan(3) == []
    assert plan(4) == [Window("subclip0-1-2", (0, 1, 2), 0.2), Window("subclip3", (3,), 0.2)]
    assert subclip_plan(tiny_config({"subclips": None}))(4) == []
