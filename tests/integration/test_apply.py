"""A finished run at work: evaluating a split, and inference on a folder of frames and on a video file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import REAL, tiny_config
from PIL import Image

from syncvis.data.contact_sheet import write_contact_sheet
from syncvis.data.single import open_video
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError, StorageError
from syncvis.evaluation.files import evaluate_files
from syncvis.evaluation.results import read_results
from syncvis.ops.masks import decode
from syncvis.training.apply import evaluate_run, infer_video
from syncvis.training.run import run
from syncvis.training.validation import Validation

HEIGHT, WIDTH, LENGTH = 32, 48, 4


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run(tiny_config({"train.steps": 2}, tiny_data), out)
    return out


@pytest.fixture(scope="module")
def frames(tiny_data: Path) -> Path:
    """The folder of the frames of one video."""
    dataset = VideoDataset.load(tiny_data, "test.json")
    return tiny_data / "JPEGImages" / Path(dataset.videos[0].file_names[0]).parent


def write_video(path: Path, folder: Path) -> Path:
    """Encode a folder of frames without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for name in sorted(folder.iterdir()):
            picture = av.VideoFrame.from_ndarray(np.asarray(Image.open(name).convert("RGB")), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_evaluation_of_a_run_repeats_its_own_metrics(finished: Path, tmp_path: Path) -> None:
    stored = json.loads((finished / "result.json").read_text())["metrics"]
    results = tmp_path / "results.json"
    again = evaluate_run(finished, "valid.json", None, results, "cpu", 1)
    assert again.metrics == pytest.approx(stored)
    assert len(read_results(results, [1, 2, 3, 4, 5, 6])) == 2


def _changed(root: Path, source: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A data root with a changed valid.json."""
    tree = json.loads((source / "valid.json").read_text())
    change(tree)
    (root / "JPEGImages").symlink_to(source / "JPEGImages")
    (root / "valid.json").write_text(json.dumps(tree))
    return root


def _renumber(tree: dict[str, Any]) -> None:
    """The same classes with other ids, in another order."""
    tree["categories"] = [c | {"id": 100 * c["id"]} for c in reversed(tree["categories"])]
    for entry in tree["annotations"]:
        entry["category_id"] *= 100


def test_categories_of_the_same_names_are_matched(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    root, results, own = _changed(tmp_path, tiny_data, _renumber), tmp_path / "a.json", tmp_path / "b.json"
    remarks: list[str] = []
    found = evaluate_run(finished, "valid.json", str(root), results, "cpu", 1, remarks)
    expected = evaluate_run(finished, "valid.json", None, own, "cpu", 1, remarks)
    assert (found.metrics, found.per_category) == (expected.metrics, expected.per_category)
    (remark,) = remarks
    assert remark.startswith("categories of valid.json matched by name: the same 6 names with other ids in the run and")
    pairs = zip(json.loads(results.read_text()), json.loads(own.read_text()), strict=True)
    assert all(a == b | {"category_id": 100 * b["category_id"]} for a, b in pairs)
    matched, _ = evaluate_files(root / "valid.json", results)
    assert matched.official == found.official


def test_what_differs_of_the_categories_is_said(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    def rename(tree: dict[str, Any]) -> None:
        tree["categories"][0]["name"] = "dog"

    name = json.loads((tiny_data / "valid.json").read_text())["categories"][0]["name"]
    root = _changed(tmp_path, tiny_data, rename)
    with pytest.raises(DataError) as caught:
        evaluate_run(finished, "valid.json", str(root), None, "cpu", 1)
    said = f"are not those of the run: only in the run: {name!r}; only in the data: 'dog'; 5 alike. Fix: evaluate on"
    assert f"valid.json: categories: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tree: tree.update(annotations=[]), "there are no annotations"),
        (
            lambda tree: [entry.update(iscrowd=1) for entry in tree["annotations"]],
            r"annotations: (\d+), crowds: \1, others without a pixel: 0",
        ),
        (
            lambda tree: [e.update(segmentations=[[] for _ in e["segmentations"]]) for e in tree["annotations"]],
            r"annotations: (\d+), crowds: 0, others without a pixel: \1",
        ),
    ],
)
def test_a_split_in_which_nothing_can_be_found_is_refused(
    finished: Path, tiny_data: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], found: str
) -> None:
    root = _changed(tmp_path, tiny_data, change)
    problem = rf"valid\.json: annotations: has no annotated instance, so AP is undefined \({found}\)\. Fix: evaluate on"
    with pytest.raises(DataError, match=problem):
        evaluate_run(finished, "valid.json", str(root), None, "cpu", 1)


def test_a_missing_frame_is_found_before_anything_is_predicted(
    finished: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(tiny_data, root)
    name = json.loads((root / "valid.json").read_text())["videos"][-1]["file_names"][-1]
    (root / "JPEGImages" / name).unlink()
    monkeypatch.setattr(Validation, "stream", lambda *_: pytest.fail("it predicts"))
    with pytest.raises(DataError, match=rf"valid\.json: .*: 1 frame missing \({name}\)"):
        evaluate_run(finished, "valid.json", str(root), None, "cpu", 1)


def test_weights_of_another_model_are_refused(finished: Path, tmp_path: Path) -> None:
    text = (finished / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("video_queries: 4", "video_queries: 6"))
    (tmp_path / "model.safetensors").write_bytes((finished / "model.safetensors").read_bytes())
    with pytest.raises(StorageError, match=r"does not fit the model at decoder\.query_sets\.video"):
        evaluate_run(tmp_path, "valid.json", None, None, "cpu", 1)


def test_inference_on_a_folder_and_on_a_video_file_agree(finished: Path, frames: Path, tmp_path: Path) -> None:
    infer_video(finished, frames, tmp_path / "folder", 10, "cpu", 1)
    infer_video(finished, write_video(tmp_path / "clip.mkv", frames), tmp_path / "file", 10, "cpu", 1)
    rows = json.loads((tmp_path / "folder" / "results.json").read_text())
    assert rows == json.loads((tmp_path / "file" / "results.json").read_text())
    assert all(len(row["segmentations"]) == LENGTH for row in rows)
    masks = [rle for row in rows for rle in row["segmentations"] if rle]
    assert masks
    assert all(decode(rle, HEIGHT, WIDTH, "here").any() for rle in masks)
    with Image.open(tmp_path / "folder" / "overlay.png") as picture:
        assert picture.width > LENGTH * WIDTH


def test_video_files_are_read_frame_by_frame(frames: Path, tmp_path: Path) -> None:
    dataset = open_video(write_video(tmp_path / "clip.mkv", frames), [Category(1, "thing")], 10)
    for t, name in enumerate(sorted(frames.iterdir())):
        expected = np.asarray(Image.open(name).convert("RGB"))
        assert np.array_equal(dataset.read_frame(dataset.videos[0], t), expected)


def test_sources_that_cannot_be_read_are_named(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    clip = write_video(tmp_path / "clip.mkv", frames)
    cases = [
        (tmp_path / "empty", 10, "empty: has no images"),
        (tmp_path / "none.mp4", 10, r"none\.mp4: cannot be read as a video"),
        (tmp_path / "broken.mp4", 10, r"broken\.mp4: cannot be read as a video"),
        (clip, 3, r"clip\.mkv: is longer than allowed.*--max-frames"),
        (frames, 3, "has 4 frames.*--max-frames"),
    ]
    for source, max_frames, message in cases:
        with pytest.raises(DataError, match=message):
            open_video(source, [Category(1, "thing")], max_frames)


def test_contact_sheet_shows_the_videos_asked_for(tiny_data: Path, tmp_path: Path) -> None:
    dataset, heights = VideoDataset.load(tiny_data, "valid.json"), []
    for videos in (1, 2):
        with Image.open(write_contact_sheet(dataset, tmp_path / "sheet.png", videos, 3)) as sheet:
            heights.append(sheet.height)
    assert heights[1] > 1.5 * heights[0]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos (shared/data/real-vis-mini) are not here")
def test_real_videos_train_evaluate_and_are_drawn(tmp_path: Path) -> None:
    changes = {
        "data.train": "train.json",
        "data.valid": "train.json",
        "data.videos": [2],
        "data.short_side": [64],
        "data.test_short_side": 64,
        "data.frame_range": 60,
        "train.steps": 2,
        "train.batch_size": 1,
    }
    result = run(tiny_config(changes, REAL), tmp_path / "run")
    assert set(result.per_category) == {"person", "soapbox_cart"}
    assert 0 <= result.metrics["AP"] <= 100
    assert (tmp_path / "run" / "overlays" / "2.png").stat().st_size > 10_000
