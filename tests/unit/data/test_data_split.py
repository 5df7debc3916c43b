"""Our own split: categories on both sides where they can be, the same on any machine, the JSON otherwise as it was."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncvis.data.balance import Balance
from syncvis.data.split import WrittenSplit, choose_valid, video_groups, write_split
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import ConfigError, DataError, StorageError

Videos = Sequence[Sequence[int]]  # of each video, the categories of its tracks
NAMES = ("cat", "dog", "emu", "fox")


def _tree(videos: Videos, first_id: int = 1) -> dict[str, Any]:
    ids = range(first_id, first_id + len(videos))
    tracks = [(video_id, label) for video_id, labels in zip(ids, videos, strict=True) for label in labels]
    return {
        "info": {"description": "été", "nested": [1, None, 2.5]},
        "licenses": [],
        "extra": {"kept": True},
        "videos": [{"id": i, "height": 4, "width": 6, "file_names": [f"{i}/0.png"], "fps": 24} for i in ids],
        "categories": [{"id": 10 * n, "name": name} for n, name in enumerate(NAMES)],
        "annotations": [
            {"id": 7 + n, "video_id": v, "category_id": 10 * label, "segmentations": [None], "mine": n}
            for n, (v, label) in enumerate(tracks)
        ],
    }


def _dataset(root: Path, tree: dict[str, Any], name: str = "all.json") -> VideoDataset:
    (root / "JPEGImages").mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(tree))
    return VideoDataset.load(root, name)


def _write(root: Path, tree: dict[str, Any], share: float = 0.25, **options: Any) -> WrittenSplit:
    return write_split(_dataset(root, tree), share, 0, root / "train_split.json", root / "valid_split.json", **options)


def _random_videos(count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.choice(4, rng.integers(1, 4), p=[0.6, 0.25, 0.1, 0.05]).tolist() for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_the_only_good_choice_is_found(tmp_path: Path, seed: int) -> None:
    """Category 1 is in videos 1 and 2, category 2 in 2 and 3: of one video for validation, only 2 serves both."""
    assert choose_valid(_dataset(tmp_path, _tree([[0, 1], [0, 1, 2], [0, 2], [0]])), 0.25, seed) == {2}


def test_shares_and_both_sides(tmp_path: Path) -> None:
    done = _write(tmp_path, _tree(_random_videos(200)), 0.2)
    train, valid = done.counts
    assert valid.videos == 40
    for name in NAMES:
        held, total = (
            valid.categories[name].instances,
            valid.categories[name].instances + train.categories[name].instances,
        )
        assert held == pytest.approx(0.2 * total, abs=0.05 * total)
    assert done.one_sided() == []


def test_the_same_seed_gives_the_same_split_on_any_machine(tmp_path: Path) -> None:
    """The ids were computed once, on Linux x86-64, and written down."""
    dataset = _dataset(tmp_path, _tree([[n % 4, n * n % 3] for n in range(20)]))
    assert sorted(choose_valid(dataset, 0.2, 0)) == [7, 9, 18, 20]
    assert sorted(choose_valid(dataset, 0.2, 1)) == [6, 7, 8, 17]


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    tree = _tree(_random_videos(30))
    turned = tree | {"videos": tree["videos"][::-1], "annotations": tree["annotations"][::-1]}
    first, second = (_dataset(tmp_path, t, name) for t, name in ((tree, "a.json"), (turned, "b.json")))
    assert choose_valid(first, 0.3, 5) == choose_valid(second, 0.3, 5)


def test_more_videos_change_few_sides(tmp_path: Path) -> None:
    videos = _random_videos(330)
    before = choose_valid(_dataset(tmp_path, _tree(videos[:300])), 0.2, 0)
    after = choose_valid(_dataset(tmp_path, _tree(videos)), 0.2, 0)
    changed = before ^ {video for video in after if video <= 300}
    assert len(changed) <= 15


def test_a_category_of_one_video_is_reported(tmp_path: Path) -> None:
    done = _write(tmp_path, _tree([[0, 3], [0], [0], [0]]))
    assert done.one_sided() == [("fox", done.train)]


def test_without_labels_the_videos_are_still_divided(tmp_path: Path) -> None:
    done = _write(tmp_path, _tree([[]] * 8) | {"annotations": None})
    assert (done.counts[0].videos, done.counts[1].videos) == (6, 2)
    assert json.loads(done.valid.read_text())["annotations"] is None


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_no_side_is_ever_empty(tmp_path: Path, share: float) -> None:
    assert len(choose_valid(_dataset(tmp_path, _tree([[0], [1]])), share, 0)) == 1


def test_the_json_is_otherwise_as_it_was(tmp_path: Path) -> None:
    tree = _tree(_random_videos(12))
    done = _write(tmp_path, tree)
    parts = [json.loads(path.read_text()) for path in (done.train, done.valid)]
    for part in parts:
        assert list(part) == list(tree)
        assert {key: part[key] for key in ("info", "licenses", "extra", "categories")} == {
            key: tree[key] for key in ("info", "licenses", "extra", "categories")
        }
        ids = {video["id"] for video in part["videos"]}
        assert part["videos"] == [video for video in tree["videos"] if video["id"] in ids]
        assert part["annotations"] == [entry for entry in tree["annotations"] if entry["video_id"] in ids]
    assert sorted(v["id"] for part in parts for v in part["videos"]) == list(range(1, 13))
    assert [len(VideoDataset.load(tmp_path, path.name).videos) for path in (done.train, done.valid)] == [9, 3]


def test_files_are_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "valid_split.json").write_text("precious")
    with pytest.raises(StorageError, match=r"valid_split\.json: exists already.*--force"):
        _write(tmp_path, _tree([[0], [0]]))
    assert (tmp_path / "valid_split.json").read_text() == "precious"
    assert not (tmp_path / "train_split.json").exists()
    _write(tmp_path, _tree([[0], [0]]), overwrite=True)
    assert len(VideoDataset.load(tmp_path, "valid_split.json").videos) == 1


@pytest.mark.parametrize("names", [("all.json", "b.json"), ("a.json", "a.json"), ("a.json", "JPEGImages/../all.json")])
def test_the_source_is_never_replaced(tmp_path: Path, names: tuple[str, str]) -> None:
    dataset = _dataset(tmp_path, _tree([[0], [0]]))
    with pytest.raises(ConfigError, match="must be three files"):
        write_split(dataset, 0.5, 0, tmp_path / names[0], tmp_path / names[1], overwrite=True)
    assert VideoDataset.load(tmp_path, "all.json").fingerprint == dataset.fingerprint


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20.0, float("nan")])
def test_impossible_shares(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="--valid"):
        choose_valid(_dataset(tmp_path, _tree([[0], [0]])), share, 0)


def test_one_video_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one video cannot be divided"):
        choose_valid(_dataset(tmp_path, _tree([[0]])), 0.5, 0)


def _with_files(files: Sequence[str], videos: Videos | None = None) -> dict[str, Any]:
    """Videos of one frame each, or of a video file with two."""
    tree = _tree(videos or [[n % 2] for n in range(len(files))])
    for video, file in zip(tree["videos"], files, strict=True):
        if file.endswith(".mp4"):
            del video["file_names"]
            video |= {"file_name": file, "length": 1}
        else:
            video["file_names"] = [file]
    return tree


@pytest.mark.parametrize(
    "files",
    [
        ["v1/0.jpg", "v1/0.jpg", "a/0.jpg", "b/0.jpg"],
        ["v1/0.jpg", "./v1//0.jpg", "a/0.jpg", "b/0.jpg"],
        ["v1/0.jpg", "V1/0.JPG", "a/0.jpg", "b/0.jpg"],
        ["caf\u00e9/0.jpg", "cafe\u0301/0.jpg", "a/0.jpg", "b/0.jpg"],
        ["clips/a.mp4", "clips/a.mp4", "clips/b.mp4", "clips/c.mp4"],
        ["clips/a.mp4", "clips/A.mp4#7", "clips/b.mp4", "clips/c.mp4"],
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_videos_that_share_frames_stay_together(tmp_path: Path, files: list[str], seed: int) -> None:
    for share in (0.25, 0.5, 0.75):
        chosen = choose_valid(_dataset(tmp_path, _with_files(files)), share, seed)
        assert (1 in chosen) == (2 in chosen)
        assert 0 < len(chosen) < 4


def test_groups_are_joined_through_others(tmp_path: Path) -> None:
    """1 and 4 share nothing, but both share with 3."""
    tree = _tree([[0], [0], [0], [0], [0, 1], [1]])
    names = [["a"], ["x"], ["b", "a"], ["b"], ["y"], ["z", "y"]]
    for video, frames in zip(tree["videos"], names, strict=True):
        video["file_names"] = [f"{name}.png" for name in frames]
    tree["annotations"] = [entry for entry in tree["annotations"] if entry["video_id"] in (1, 2)]
    dataset = _dataset(tmp_path, tree)
    assert [[video.id for video in group] for group in video_groups(dataset)] == [[1, 3, 4], [2], [5, 6]]
    for seed in range(5):
        assert choose_valid(dataset, 0.5, seed) in ({1, 3, 4}, {2, 5, 6})
    done = _write(tmp_path, tree)
    assert done.together == (3, 2)
    assert done.remark() == "2 groups of videos (5 videos) share frames and stay together"


def test_groups_count_as_many_videos(tmp_path: Path) -> None:
    """Of 20 videos ten show the same: a fifth is four of the others."""
    files = ["same/0.jpg"] * 10 + [f"{n}/0.jpg" for n in range(10)]
    for seed in range(5):
        chosen = choose_valid(_dataset(tmp_path, _with_files(files, [[0]] * 20)), 0.2, seed)
        assert len(chosen) == 4
        assert min(chosen) > 10


def test_videos_that_all_share_frames_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"videos: all 6 videos share frames, so none can be apart\. Fix: give a split"):
        _write(tmp_path, _with_files(["v1/0.jpg"] * 6))
    assert not (tmp_path / "train_split.json").exists()


def test_a_split_without_shared_frames_has_no_remark(tmp_path: Path) -> None:
    assert _write(tmp_path, _tree(_random_videos(12))).remark() is None


def test_thousands_of_videos_of_the_same_frames_are_grouped_quickly(tmp_path: Path) -> None:
    tree = _tree([[]] * 2000)
    for index, video in enumerate(tree["videos"]):
        video["file_names"] = [f"{index // 1000}/{t}.png" for t in range(20)]
    assert [len(group) for group in video_groups(_dataset(tmp_path, tree))] == [1000, 1000]


def test_the_number_of_videos_counts_as_much_as_all_categories_together() -> None:
    """The first alone has half of each kind, but is one of four; with another one, each kind is off by a sixth."""
    counts = np.array([[3, 3, 3], [1, 1, 1], [1, 1, 1], [1, 1, 1]])
    assert Balance(counts, Fraction(1, 2)).improve(np.zeros(4, bool)).sum() == 2


def test_as_many_categories_on_both_sides_as_any_choice_has() -> None:
    """Against all choices, for small sets where this can be hard."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        videos, kinds = rng.integers(2, 8), rng.integers(1, 6)
        counts = (rng.random((videos, kinds)) < 0.35) * rng.integers(1, 4, (videos, kinds))
        balance = Balance(counts, Fraction(1, 5))
        found = balance.improve(rng.random(videos) < 0.2)
        every = [np.array(choice) for choice in itertools.product([False, True], repeat=int(videos))]
        assert _one_sided(counts, found) == min(
            _one_sided(counts, choice) for choice in every if 0 < choice.sum() < videos
        )


def _one_sided(counts: np.ndarray, chosen: np.ndarray) -> int:
    """Kinds of two things or more that only one side has; counted anew."""
    several = (counts > 0).sum(0) > 1
    return int((several & ((counts[chosen].sum(0) == 0) | (counts[~chosen].sum(0) == 0))).sum())
