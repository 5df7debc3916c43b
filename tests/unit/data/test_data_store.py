"""Videos and tracks in arrays: what comes out is what stood in the file, and processes share it."""

from __future__ import annotations

import gc
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncvis.data.segmentations import decode, pack, unpack
from syncvis.data.store import Store, StoredVideos
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError
from syncvis.ops import masks as rle

HEIGHT, WIDTH = 10, 20
BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[2:6, 3:9] = True
TWO = [[3.0, 2.0, 9.0, 2.0, 9.0, 6.0, 3.0, 6.0], [12.25, 6.5, 16.0, 6.5, 16.0, 9.0]]


@pytest.mark.parametrize("segmentation", [None, rle.encode(BOX), TWO, TWO[:1], {"size": [10, 20], "counts": "\udc80!"}])
def test_a_mask_comes_out_as_it_went_in(segmentation: Any) -> None:
    assert unpack(*pack(segmentation, HEIGHT, WIDTH, "a.json", "m"), HEIGHT, WIDTH) == segmentation


def test_lists_of_runs_are_compressed() -> None:
    counts = [int(n) for n in rle.runs(rle.encode(BOX), "test")]
    for zeros in ([], [0, 0]):
        packed = pack({"size": [HEIGHT, WIDTH], "counts": counts + zeros}, HEIGHT, WIDTH, "a.json", "m")
        assert unpack(*packed, HEIGHT, WIDTH) == rle.encode(BOX)


def _zigzag(points: int) -> list[float]:
    return [float(x) for n in range(points) for x in (n % 2 * WIDTH, n % HEIGHT)]


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ({"size": [HEIGHT, WIDTH], "counts": "0" * 10_000}, "more runs than pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [1] * 10_000}, "does not sum to the 200 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [2**70]}, "not a list of integers"),
        ({"size": [HEIGHT, WIDTH], "counts": [200.0]}, "numbers with decimal points"),
        ({"size": [HEIGHT, WIDTH], "counts": [[200]]}, "a list inside a list"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, 201]}, "negative run"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, "something empty stands in place of null"),
        ({"size": [10.0, float("nan")], "counts": "0"}, "the mask is 10.0 x nan, its video 10 x 20"),
        ({}, "something empty stands in place of null"),
        (3, "is a whole number, not null"),
        ([_zigzag(1000)], "the outline of the polygons is too long"),
        ([[1.0, 1, 2, 1, 2, 2]] * 1000, "the outline of the polygons is too long"),
        ([[1.0, 1, 2, 1, 2, float("nan")]], "a number that is not finite"),
        ([[1.0, 1, 2, 1, 2, float("-inf")]], "a number that is not finite"),
        ([[1.0, 1, 2, 1, 2, 10**400]], "a number that is not finite"),
        ([[1.0, 1, 2, 1, 2, True]], "polygon 0 has true or false in place of a number"),
        ([None], "polygon 0 is null, not a list of numbers"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: Any, problem: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json: m.*{problem}.*Fix: "):
        pack(segmentation, HEIGHT, WIDTH, "a.json", "m")


def _store(videos: int, frames: int, counts: bytes) -> Store:
    store = Store("a.json: annotations")
    for n in range(videos):
        store.add_video(n + 10, HEIGHT, WIDTH, [f"{n}/{t}.jpg" for t in range(frames)])
    for n in range(2 * videos):  # the tracks of a video do not follow each other
        kinds = [(1, counts) if t else (0, b"") for t in range(frames)]
        store.add_track(n, n % 3, n % 2 == 1, n % videos, n, kinds)
    store.close()
    return store


def test_tracks_are_found_by_video() -> None:
    counts = rle.encode(BOX)["counts"].encode()
    videos = StoredVideos(_store(3, 4, counts), np.arange(3))
    assert videos.ids == [video.id for video in videos] == [10, 11, 12]
    assert [[track.id for track in video.tracks] for video in videos] == [[0, 3], [1, 4], [2, 5]]
    assert [video.id for video in videos[1:]] == [videos[-2].id, videos[-1].id] == [11, 12]
    assert [video.id for video in videos.only([12, 10])] == [10, 12]
    assert videos[1].file_names == ("1/0.jpg", "1/1.jpg", "1/2.jpg", "1/3.jpg")
    track = videos[1].tracks[1]
    assert (track.label, track.iscrowd, track.where) == (1, False, "a.json: annotations[4]")
    assert tuple(track.segmentations) == (None, *[rle.encode(BOX)] * 3)
    assert tuple(track.segmentations[2:]) == (rle.encode(BOX),) * 2
    assert len(track.segmentations) == 4
    assert (track.mask(1) == BOX).all()
    assert not track.mask(0).any()
    with pytest.raises(IndexError):
        track.mask(4)
    with pytest.raises(IndexError):
        videos[3]


def test_other_labels_leave_the_masks_where_they_are() -> None:
    videos = StoredVideos(_store(3, 4, b"anything"), np.arange(3))
    changed = videos.only([10, 11]).relabelled([-1, 7, 0])
    assert [(v.id, [(t.id, t.label) for t in v.tracks]) for v in changed] == [(11, [(1, 7), (4, 7)])]
    assert tuple(changed[0].tracks[1].segmentations) == tuple(videos[1].tracks[1].segmentations)
    assert [track.label for video in videos for track in video.tracks] == [0, 0, 1, 1, 2, 2], "as before"
    assert len(videos.relabelled([-1, -1, -1])) == 0


def test_a_pickled_copy_is_the_same() -> None:
    videos = StoredVideos(_store(3, 4, b"anything"), np.arange(3))
    again = pickle.loads(pickle.dumps(videos))
    assert [track.id for video in again for track in video.tracks] == [0, 3, 1, 4, 2, 5]
    assert again[2].tracks[0].segmentations[3]["counts"] == "anything"


def test_a_mask_costs_little_more_than_its_counts() -> None:
    videos, frames, counts = 200, 36, 100
    store = _store(videos, frames, b"x" * counts)
    stored = 2 * videos * (frames - 1) * counts
    # One place and one kind per mask, a place and up to ten letters per name, and a row per track and video.
    extra = 2 * videos * frames * 9 + videos * frames * 18 + videos * (2 * 7 * 8 + 5 * 8)
    assert stored < store.nbytes < stored + extra + 100


def _private_kib() -> int:
    """Memory that no other process shares (USS)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _visit(videos: StoredVideos) -> int:
    return sum(track.has_mask(t) for video in videos for track in video.tracks for t in range(len(video)))


def _growth_in_forked_processes(videos: StoredVideos, processes: int) -> list[int]:
    """KiB that become a process's own while it reads all tracks."""
    reading, writing = os.pipe()
    gc.collect()
    children = []
    for _ in range(processes):
        child = os.fork()
        if not child:
            try:
                before, visited = _private_kib(), _visit(videos)
                os.write(writing, f"{_private_kib() - before if visited else 0}\n".encode())
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        return [int(line) for line in answers]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the memory of processes is not in /proc here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it has threads
def test_forked_processes_share_the_annotations() -> None:
    store = _store(2000, 10, b"x" * 500)
    assert store.nbytes > 18 * 2**20
    growth = _growth_in_forked_processes(StoredVideos(store, np.arange(2000)), 2)
    assert len(growth) == 2
    assert all(0 < kib < 3 * 1024 for kib in growth), f"{growth} KiB"


def test_masks_of_a_track_with_changed_segmentations(tmp_path: Path) -> None:
    assert (decode([TWO[0]], HEIGHT, WIDTH, "here") == BOX).all()
    with pytest.raises(DataError, match="here: a point is 79 pixels outside the frame of 10 x 20"):
        decode([[0, 0, 99, 0, 99, 9]], HEIGHT, WIDTH, "here")


def test_too_many_tracks_or_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracks = [{"id": n, "video_id": 1, "category_id": 1, "segmentations": [None] * 3} for n in range(4)]
    video = {"id": 1, "height": 4, "width": 4, "file_names": ["a", "b", "c"]}
    tree = {"videos": [video], "categories": [{"id": 1, "name": "x"}], "annotations": tracks}
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "train.json").write_text(json.dumps(tree))
    monkeypatch.setattr("syncvis.data.entries.MAX_TRACKS", 3)
    with pytest.raises(DataError, match="annotations: a video has 4 annotations, over the limit of 3"):
        VideoDataset.load(tmp_path, "train.json")
    monkeypatch.setattr("syncvis.data.ytvis.MAX_FRAMES", 2)
    with pytest.raises(DataError, match=r"videos\[0\]\.file_names: 3 frames are not between 1 and 2"):
        VideoDataset.load(tmp_path, "train.json")
