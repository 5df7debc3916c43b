from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from syncvis.data.appearance import SHAPES, TEXTURES, category_parts, rgb
from syncvis.data.synthetic import MIN_VISIBLE_PIXELS, Scene, SyntheticConfig, draw_scene, write_synthetic
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError, StorageError

TINY = SyntheticConfig(train=3, valid=2, test=1, stills=4, frames=3)
CALM: dict[str, Any] = {"occlusion": 0, "lookalikes": 0, "reentry": 0, "speed": 0, "crowding": 0, "camera": 0}


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _scenes(count: int = 25, **dials: Any) -> list[Scene]:
    config = SyntheticConfig(**{**CALM, "objects": (3, 3), **dials})
    return [draw_scene(config, 8, np.random.default_rng(seed)) for seed in range(count)]


def _centres(scene: Scene) -> np.ndarray:
    """(G, T, 2) mean x, y of the visible pixels, NaN where there are none."""
    centres = np.full((*scene.masks.shape[:2], 2), np.nan)
    for g, t in np.argwhere(scene.masks.any((2, 3))):
        y, x = np.nonzero(scene.masks[g, t])
        centres[g, t] = x.mean(), y.mean()
    return centres


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = _digests(write_synthetic(tmp_path / "a", TINY, seed=7))
    assert first == _digests(write_synthetic(tmp_path / "b", TINY, seed=7))
    assert len([name for name in first if name.endswith(".png")]) == (3 + 2 + 1) * 3 + 4
    assert {"train.json", "valid.json", "test.json", "stills.json", "synthetic.json"} <= set(first)


def test_seeds_splits_and_videos_differ(tmp_path: Path) -> None:
    a = _digests(write_synthetic(tmp_path / "a", TINY, seed=0))
    b = _digests(write_synthetic(tmp_path / "b", TINY, seed=1))
    images = [digest for files in (a, b) for name, digest in files.items() if name.endswith(".png")]
    assert len(set(images)) == len(images)


def test_a_video_does_not_depend_on_the_number_of_videos(tmp_path: Path) -> None:
    few = _digests(write_synthetic(tmp_path / "few", TINY, seed=0))
    many = _digests(write_synthetic(tmp_path / "many", TINY.model_copy(update={"train": 5}), seed=0))
    frames = {name: digest for name, digest in few.items() if name.endswith(".png")}
    assert frames.items() <= many.items()


def test_second_call_returns_at_once_and_leaves_no_drafts(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "data", TINY, seed=0)
    (root / "JPEGImages" / "train_00000" / "00000.png").unlink()
    write_synthetic(root, TINY, seed=0)
    assert not (root / "JPEGImages" / "train_00000" / "00000.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_other_config_in_the_same_folder_is_an_error(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "data", TINY, seed=0)
    before = _digests(root)
    for config, seed in [(TINY, 1), (TINY.model_copy(update={"speed": 0.5}), 0)]:
        with pytest.raises(DataError, match=r"synthetic\.json: .*another config, seed .*Fix: choose another folder"):
            write_synthetic(root, config, seed)
    assert _digests(root) == before


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="choose an empty folder"):
        write_synthetic(tmp_path, TINY, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_unwritable_places_are_storage_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"data: cannot be made .*Fix: "):
        write_synthetic(tmp_path / "file" / "data", TINY, seed=0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("syncvis.data.synthetic._write_frames", full)
    with pytest.raises(StorageError, match=r"data: cannot be written \(No space left on device\)\. Fix: "):
        write_synthetic(tmp_path / "data", TINY, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_worker_that_comes_second_takes_the_first_ones_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    rename = Path.rename

    def overtaken(draft: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        write_synthetic(root, TINY, seed=0)
        return draft.rename(target)

    monkeypatch.setattr(Path, "rename", overtaken)
    assert write_synthetic(root, TINY, seed=0) == root
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> Scene:
        raise KeyboardInterrupt

    monkeypatch.setattr("syncvis.data.synthetic.draw_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "data", TINY, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_annotations_follow_the_format_and_the_masks(tmp_path: Path) -> None:
    config = SyntheticConfig(train=6, valid=1, test=1, stills=0, frames=6, reentry=1, occlusion=1)
    root = write_synthetic(tmp_path / "data", config, seed=0)
    tree = json.loads((root / "train.json").read_text())
    assert {"info", "licenses", "videos", "categories", "annotations"} == set(tree)
    tracks = {t.id: t for v in VideoDataset.load(root, "train.json").videos for t in v.tracks}
    assert len(tracks) == len(tree["annotations"]) > 6
    for entry in tree["annotations"]:
        assert any(entry["segmentations"])
        for t, segmentation in enumerate(entry["segmentations"]):
            mask = tracks[entry["id"]].mask(t)
            assert (entry["bboxes"][t] is None) == (segmentation is None) == (not mask.any())
            if segmentation is not None:
                assert isinstance(segmentation["counts"], str)
                y, x = np.nonzero(mask)
                box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
                assert entry["bboxes"][t] == box
                assert entry["areas"][t] == len(x) >= MIN_VISIBLE_PIXELS


def test_frames_have_the_size_and_stills_one_frame(tmp_path: Path) -> None:
    config = SyntheticConfig(train=1, valid=1, test=1, stills=2, frames=2, height=48, width=80)
    root = write_synthetic(tmp_path / "data", config, seed=0)
    for name, length in [("train", 2), ("valid", 2), ("test", 2), ("stills", 1)]:
        for video in json.loads((root / f"{name}.json").read_text())["videos"]:
            assert (video["height"], video["width"], video["length"]) == (48, 80, length)
            for file_name in video["file_names"]:
                with Image.open(root / "JPEGImages" / file_name) as image:
                    assert image.size == (80, 48)


def test_masks_do_not_overlap_and_show_the_category_colour() -> None:
    for scene in _scenes(10, occlusion=1):
        assert scene.masks.sum(0).max() == 1
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            inside = scene.frames[mask].mean(0)
            assert np.corrcoef(inside, rgb(label / 6, 1, 1))[0, 1] > 0.8


def test_objects_have_the_promised_size() -> None:
    scenes = _scenes(40, objects=(1, 1), size=(0.3, 0.58))
    extents = [max(np.ptp(np.nonzero(s.masks[0, 0])[0]), np.ptp(np.nonzero(s.masks[0, 0])[1])) for s in scenes]
    assert np.percentile(extents, 5) > 14
    assert np.percentile(extents, 95) < 44


def _contacts(scene: Scene) -> float:
    """How many frames show two objects that touch."""
    grown = scene.masks.copy()
    grown[:, :, 1:] |= scene.masks[:, :, :-1]
    grown[:, :, :, 1:] |= scene.masks[:, :, :, :-1]
    return float((grown.sum(0).max((1, 2)) > 1).mean())


def _pairs_of_one_class(scene: Scene) -> float:
    return float(len(set(scene.labels)) < len(scene.labels))


def _returns(scene: Scene) -> float:
    """How many objects are seen, gone, and seen again."""
    seen = scene.masks.any((2, 3))
    gone = [(~s[np.argmax(s) : len(s) - np.argmax(s[::-1])]).any() for s in seen]
    return float(np.mean(gone))


def _travel(scene: Scene) -> float:
    return float(np.nanmedian(np.linalg.norm(np.diff(_centres(scene), axis=1), axis=-1)))


def _background_change(scene: Scene) -> float:
    first, last = (scene.frames[t].astype(float)[~scene.masks.any((0, 1))] for t in (0, -1))
    return float(abs(first - last).mean())


def _distance(scene: Scene) -> float:
    centres = _centres(scene)[:, 0]
    return -float(np.nanmean(np.linalg.norm(centres[:, None] - centres, axis=-1)))


def _count(scene: Scene) -> float:
    return float(len(scene.labels))


@pytest.mark.parametrize(
    ("dial", "high", "measure", "factor", "base"),
    [
        ("occlusion", 1.0, _contacts, 2.0, {}),
        ("lookalikes", 0.9, _pairs_of_one_class, 1.5, {}),
        ("reentry", 1.0, _returns, 20.0, {}),
        ("speed", 0.1, _travel, 4.0, {}),
        ("camera", 0.1, _background_change, 2.0, {}),
        ("crowding", 1.0, _distance, 0.8, {}),
        ("crowding", 1.0, _count, 1.2, {"objects": (1, 4)}),
    ],
)
def test_each_dial_does_what_it_says(
    dial: str, high: float, measure: Callable[[Scene], float], factor: float, base: dict[str, Any]
) -> None:
    low_mean, high_mean = (
        np.mean([measure(scene) for scene in _scenes(**{**base, dial: value})]) for value in (0, high)
    )
    assert high_mean > factor * low_mean


def test_lookalikes_look_alike() -> None:
    def hue_gaps(dial: float) -> list[float]:
        scenes = [s for s in _scenes(40, objects=(2, 2), lookalikes=dial) if len(set(s.labels)) < len(s.labels)]
        colours = [[s.frames[m].mean(0) / s.frames[m].mean() for m in s.masks] for s in scenes]
        return [float(abs(a - b).mean()) for a, b in colours]

    assert np.mean(hue_gaps(0.95)) < 0.5 * np.mean(hue_gaps(0.3))


def test_categories_differ_in_every_pair() -> None:
    parts = [category_parts(i) for i in range(len(SHAPES) * len(TEXTURES))]
    assert len(set(parts)) == len(parts)
    assert len({shape for _, shape in parts[:6]}) == len({texture for texture, _ in parts[:6]}) == 6


@pytest.mark.parametrize(("hue", "expected"), [(0, (1, 0, 0)), (1 / 3, (0, 1, 0)), (2 / 3, (0, 0, 1))])
def test_rgb_of_pure_hues(hue: float, expected: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(rgb(hue, 1, 1), expected, atol=1e-9)


@pytest.mark.parametrize("bad", [{"objects": (4, 1)}, {"size": (0, 0.5)}, {"occlusion": 1.5}, {"colour": 1}])
def test_impossible_config_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SyntheticConfig(**bad)
