"""CPU time of the look before a run: SYNCVIS_VIDEOS of them (default 200) with 30 frames each, linked to 30 pictures.

SYNCVIS_VIDEOS=3000 pytest -s tests/benchmarks/test_benchmark_preflight.py
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import tiny_config
from PIL import Image

from syncvis.preflight import look

VIDEOS = int(os.environ.get("SYNCVIS_VIDEOS", "200"))
FRAMES, TRACKS, HEIGHT, WIDTH = 30, 3, 64, 96
MASK = {"size": [HEIGHT, WIDTH], "counts": [100, 20, 44, 20, HEIGHT * WIDTH - 184]}


def _write(root: Path, split: str, count: int) -> None:
    videos, annotations = [], []
    for number in range(count):
        folder = root / "JPEGImages" / f"{split}{number:05d}"
        folder.mkdir(parents=True)
        names = [f"{folder.name}/{t:05d}.jpg" for t in range(FRAMES)]
        for t, name in enumerate(names):
            os.link(root / f"{t}.jpg", root / "JPEGImages" / name)
        videos.append({"id": number, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": names})
        for track in range(TRACKS):
            ids = {"id": TRACKS * number + track, "video_id": number, "category_id": 1}
            annotations.append({**ids, "segmentations": [MASK] * FRAMES})
    tree = {"videos": videos, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / f"{split}.json").write_text(json.dumps(tree))


def _seconds(done: Callable[[], object], times: int = 1) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        done()
        best = min(best, time.process_time() - start)
    return best


def _walk(root: Path) -> int:
    """The least that can be done: ask for the size and time of every file."""
    return sum(entry.stat().st_size for folder in (root / "JPEGImages").iterdir() for entry in os.scandir(folder))


def test_a_second_look_costs_little_more_than_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for t in range(FRAMES):
        Image.new("RGB", (WIDTH, HEIGHT), (8 * t, 0, 0)).save(tmp_path / f"{t}.jpg")
    _write(tmp_path, "train", VIDEOS)
    _write(tmp_path, "valid", max(VIDEOS // 10, 1))
    config = tiny_config({}, tmp_path)

    def look_at_all() -> None:
        assert look(config).problems == ()

    walked = _seconds(lambda: _walk(tmp_path), 3)
    first, second = _seconds(look_at_all), _seconds(look_at_all, 3)
    print(f"{VIDEOS} videos: listing {walked:.2f} s of CPU time, first look {first:.2f} s, second {second:.2f} s")
    assert second < 8 * walked
    assert second < first / 5
