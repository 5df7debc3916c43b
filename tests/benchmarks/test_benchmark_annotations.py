"""Time and memory of loading many tracks: SYNCVIS_TRACKS of them (default 2,000) with 5 frames each.

SYNCVIS_TRACKS=100000 pytest -s tests/benchmarks/test_benchmark_annotations.py
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from syncvis.data.store import StoredVideos
from syncvis.data.ytvis import VideoDataset
from syncvis.ops import masks

TRACKS = int(os.environ.get("SYNCVIS_TRACKS", "2000"))
FRAMES, TRACKS_A_VIDEO, HEIGHT, WIDTH = 5, 4, 360, 640


def _masks(count: int) -> list[str]:
    """Discs with a ragged border, about as many runs as annotated things have."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    texts = []
    for _ in range(count):
        row, column, radius = rng.integers(60, 300), rng.integers(80, 560), rng.integers(30, 120)
        border = radius + 4 * np.sin(x / 3 + y / 2)
        texts.append(json.dumps(masks.encode(np.hypot(y - row, x - column) < border)))
    return texts


def _write(root: Path) -> int:
    """Write train.json; returns the characters of all masks' counts."""
    (root / "JPEGImages").mkdir()
    texts, total = _masks(100), 0
    pick = itertools.cycle(texts)
    size = f'"height": {HEIGHT}, "width": {WIDTH}'
    with (root / "train.json").open("w") as file:
        names = [
            json.dumps([f"{n:08x}/{5 * t:05d}.jpg" for t in range(FRAMES)]) for n in range(TRACKS // TRACKS_A_VIDEO)
        ]
        file.write('{"videos": [')
        file.write(", ".join(f'{{"id": {n}, {size}, "file_names": {name}}}' for n, name in enumerate(names)))
        file.write('], "categories": [{"id": 1, "name": "thing"}], "annotations": [')
        for n in range(TRACKS):
            chosen = list(itertools.islice(pick, FRAMES))
            total += sum(len(json.loads(text)["counts"]) for text in chosen) if n < 100 else 0
            ids = f'"id": {n}, "video_id": {n // TRACKS_A_VIDEO}, "category_id": 1'
            file.write(f'{", " * bool(n)}{{{ids}, "segmentations": [{", ".join(chosen)}]}}')
        file.write("]}")
    return total // min(TRACKS, 100) * TRACKS


def _resident_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the memory of processes is not in /proc here")
def test_loading_many_tracks(tmp_path: Path) -> None:
    counts = _write(tmp_path)
    gc.collect()
    before, start = _resident_kib(), time.process_time()
    dataset = VideoDataset.load(tmp_path, "train.json")
    seconds = time.process_time() - start
    gc.collect()
    grown = 1024 * (_resident_kib() - before)
    assert isinstance(dataset.videos, StoredVideos)
    held = dataset.videos.store.nbytes
    print(
        f"\n{TRACKS:,} tracks x {FRAMES} frames, {(tmp_path / 'train.json').stat().st_size / 2**20:,.0f} MiB of JSON: "
        f"{seconds:.1f} s of CPU, {grown / TRACKS:,.0f} bytes resident a track, {held / TRACKS:,.0f} in arrays, "
        f"{counts / TRACKS:,.0f} of them the masks' own"
    )
    assert counts <= held < counts + TRACKS * (FRAMES * 17 + 200)
    assert len(dataset.videos[-1].tracks) == TRACKS_A_VIDEO
    assert all(track.mask(0).any() for track in dataset.videos[-1].tracks)
