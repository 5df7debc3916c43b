"""``syncvis data stats``, ``split`` and ``view`` from the command line, with good and bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import REAL
from PIL import Image

from syncvis.config import load_config
from syncvis.data.ytvis import VideoDataset

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
CONFIG_ERROR, DATA_ERROR, STORAGE_ERROR = 2, 3, 4


@pytest.fixture
def data(syncvis: Run) -> Run:
    """Run ``syncvis data`` in an empty folder: (exit code, stdout, stderr)."""
    return partial(syncvis, "data")


@pytest.fixture
def root(tiny_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_data, tmp_path / "videos"))


def _results(root: Path, path: Path, split: str = "valid.json") -> Path:
    """The annotation as predictions."""
    tracks = json.loads((root / split).read_text())["annotations"]
    keys = ("video_id", "category_id", "segmentations")
    path.write_text(json.dumps([{"score": 0.9, **{key: track[key] for key in keys}} for track in tracks]))
    return path


def test_stats_count_what_the_json_holds(data: Run, root: Path) -> None:
    tree = json.loads((root / "train.json").read_text())
    code, out, _ = data("stats", root, "--split", "train.json", "--split", "valid.json", "--json", "--areas")
    found = json.loads(out)
    train, together = found["splits"][0], found["together"]
    assert (code, found["published"], train["videos"], together["videos"]) == (0, None, 4, 6)
    assert train["instances"] == len(tree["annotations"])
    areas = [area / (32 * 48) for track in tree["annotations"] for area in track["areas"] if area is not None]
    assert train["masks"] == len(areas)
    assert train["mask_area"]["mean"] == pytest.approx(sum(areas) / len(areas))


def test_a_name_that_no_terminal_has_is_printed_all_the_same(data: Run, root: Path) -> None:
    tree = json.loads((root / "train.json").read_text())
    tree["categories"][0]["name"] = "\ud800 cat"
    (root / "train.json").write_text(json.dumps(tree))
    code, out, err = data("stats", root)
    assert (code, err) == (0, "")
    assert "\\ud800 cat" in out


def test_stats_beside_the_published_values(data: Run, root: Path) -> None:
    code, out, _ = data("stats", root, "--published", "YouTube-VIS 2019", "--markdown")
    assert code == 0
    assert "|  | train.json | YouTube-VIS 2019 | difference |" in out
    assert "| videos | 4 | 2,883 | -2,879 |" in out
    moved = root.rename(root.with_name("ovis"))
    assert "OVIS" in data("stats", moved)[1]
    assert "OVIS" not in data("stats", moved, "--published", "none")[1]


def test_split_makes_the_files_that_the_recipes_name(data: Run, root: Path) -> None:
    """As the official data sets lie: the JSON one folder above that with the frames."""
    (root / "train").mkdir()
    (root / "JPEGImages").rename(root / "train" / "JPEGImages")
    code, out, err = data("split", root / "train", "--split", "../train.json", "--valid", 0.25)
    assert (code, out.splitlines()[0].split(), out.splitlines()[1].split()) == (
        0,
        ["train", "valid"],
        ["videos", "3", "1"],
    )
    assert all(line.startswith("warning: category ") for line in err.splitlines())
    recipe = load_config(ROOT / "experiments/recipes/syncvis_ytvis_2019_r50.yaml", [])
    parts = [VideoDataset.load(root / "train", name) for name in (recipe.data.train, recipe.data.valid)]
    assert [len(part.videos) for part in parts] == [3, 1]
    assert parts[1].read_frame(parts[1].videos[0], 0).shape == (32, 48, 3)


def test_split_again_needs_force_and_gives_the_same(data: Run, root: Path) -> None:
    assert data("split", root, "--seed", 3)[0] == 0
    before = (root / "valid_split.json").read_bytes()
    code, _, err = data("split", root, "--seed", 3)
    assert (code, err.count("\n")) == (STORAGE_ERROR, 1)
    assert "train_split.json: exists already" in err
    assert data("split", root, "--seed", 3, "--force")[0] == 0
    assert (root / "valid_split.json").read_bytes() == before


def test_view_draws_the_videos_asked_for(data: Run, root: Path, tmp_path: Path) -> None:
    heights = []
    for words in (["--ids", "2"], ["--ids", "1,2"], ["--ids", "2,1", "--videos", "1"]):
        assert data("view", root, "--split", "valid.json", "--frames", 2, *words)[0] == 0
        with Image.open(tmp_path / "outputs" / "contact_sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] < heights[1] == heights[2]


def test_view_draws_predictions_and_a_video(data: Run, root: Path, tmp_path: Path) -> None:
    results = _results(root, tmp_path / "results.json")
    words = ("view", root, "--split", "valid.json", "--predictions", results, "--ids", 2, "--video", "clip.gif")
    assert data(*words, "--frames", 2)[:2] == (0, "clip.gif\n")
    with Image.open(tmp_path / "clip.gif") as clip:
        assert (getattr(clip, "n_frames", 1), clip.height) == (2, 2 * 378)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["stats", "ROOT", "--split", "gone.json"], DATA_ERROR, "gone.json: cannot be read"),
        (["stats", "ROOT", "--published", "COCO"], CONFIG_ERROR, "--published: 0 published data sets fit 'COCO'"),
        (["stats", "ROOT", "--json", "--markdown"], CONFIG_ERROR, "--json and --markdown exclude each other"),
        (["split", "ROOT", "--valid", "1.5"], CONFIG_ERROR, "--valid: 1.5 is not within"),
        (["split", "ROOT", "--split", "test.json"], DATA_ERROR, "one video cannot be divided"),
        (["split", "ROOT", "--out-train", "train.json", "--force"], CONFIG_ERROR, "must be three files"),
        (["split", "ROOT", "--out-train", "train.json/x.json"], STORAGE_ERROR, "cannot be written"),
        (["view", "ROOT", "--ids", "a"], CONFIG_ERROR, "--ids: 'a' is not a list of ids"),
        (["view", "ROOT", "--ids", "99"], DATA_ERROR, "no video has id 99"),
        (["view", "ROOT", "--ids", "1,2", "--video", "a.mp4"], CONFIG_ERROR, "--video draws one video"),
        (["view", "ROOT", "--video", "a.txt"], CONFIG_ERROR, "a.txt: is not the name of a video"),
        (["view", "ROOT", "--predictions", "gone.json"], STORAGE_ERROR, "gone.json: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    data: Run, root: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    found, _, err = data(*(str(root) if word == "ROOT" else word for word in words))
    assert (found, err.count("\n")) == (code, 1), err
    assert err.startswith("error: ")
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def _edited(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
    return path


def _swap(rows: list[dict[str, Any]]) -> None:
    for mask in filter(None, rows[0]["segmentations"]):
        mask["size"].reverse()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(category_id=77), "row 0: category_id: is 77, not one of the ids 1, 2, 3, 4, 5, 6"),
        (lambda rows: rows[0]["segmentations"].pop(), "row 0: segmentations: has 3 frames, video 1 has 4"),
        (
            _swap,
            "row 0: segmentations: the masks are 48 x 32 pixels, video 1 32 x 48 (height x width): height and width",
        ),
    ],
)
def test_predictions_that_do_not_fit_the_split_are_refused(
    data: Run, root: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    results = _edited(_results(root, tmp_path / "results.json"), change)
    code, _, err = data("view", root, "--split", "valid.json", "--predictions", results, "--ids", 2)
    assert (code, message in err) == (DATA_ERROR, True), err


def test_predicted_videos_that_are_not_in_the_split_are_said(data: Run, root: Path, tmp_path: Path) -> None:
    results = _results(root, tmp_path / "results.json")
    words = ("view", root, "--split", "valid.json", "--predictions", results)
    _edited(results, lambda rows: rows.append(rows[0] | {"video_id": 99}))
    left_out = "1 of 3 videos of results.json left out, as they are not in valid.json"
    assert data(*words, "--ids", 2)[::2] == (0, f"note: {left_out}: 99\n")
    _edited(results, lambda rows: [row.update(video_id=row["video_id"] + 90) for row in rows])
    code, _, err = data(*words)
    assert code == DATA_ERROR
    assert "results.json: video_id: no video of it is in valid.json: it has 91, 92, 189, the split 1, 2. Fix: " in err


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos (shared/data/real-vis-mini) are not here")
def test_real_videos_are_counted_divided_and_drawn(data: Run, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "JPEGImages").symlink_to(REAL / "JPEGImages")
    shutil.copy(REAL / "train.json", tmp_path / "real")
    together = json.loads(data("stats", REAL, "--split", "train.json", "--split", "valid.json", "--json")[1])[
        "together"
    ]
    assert [together[key] for key in ("videos", "frames", "instances", "masks")] == [6, 321, 10, 532]
    code, out, err = data("split", tmp_path / "real", "--valid", 0.25)
    assert (code, out.splitlines()[1].split()) == (0, ["videos", "3", "1"])
    assert "warning: category 'chair_reflection' is only in" in err
    assert data("view", REAL, "--ids", 4, "--frames", 3, "--out", tmp_path / "sheet.png")[0] == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * (160 * 480 // 320) + 4 * 4
