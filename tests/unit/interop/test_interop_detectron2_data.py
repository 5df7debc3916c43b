"""Data sets, mapper and evaluator inside the real detectron2, on the tiny synthetic videos."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError, MissingDependencyError
from syncvis.evaluation.results import read_results
from syncvis.interop.splits import SPLITS
from syncvis.ops import masks

ours = pytest.importorskip(
    "syncvis.interop.detectron2", reason="detectron2 is not installed", exc_type=MissingDependencyError
)
from detectron2.data import (  # noqa: E402
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data import transforms as T  # noqa: E402
from detectron2.engine import SimpleTrainer  # noqa: E402
from detectron2.evaluation import inference_on_dataset  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.utils import comm  # noqa: E402

TRAIN, VALID = "ytvis_2019_train", "ytvis_2019_val"


@pytest.fixture
def catalog() -> Iterator[None]:
    """Forgets what a test registers."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
    for name in (*SPLITS, "mine"):
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


@pytest.fixture
def root(tiny_data: Path, tmp_path: Path, catalog: None) -> Path:
    """A registered data set in the public layout; one mask of train is empty, test has no labels."""
    folder = tmp_path / "ytvis_2019"
    shutil.copytree(tiny_data, folder)
    for split in ("train", "valid", "test"):
        shutil.copytree(folder / "JPEGImages", folder / split / "JPEGImages")
    shutil.rmtree(folder / "JPEGImages")
    tree = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps(tree | {"annotations": None}))
    tree = json.loads((folder / "train.json").read_text())
    tree["annotations"][0]["segmentations"][1] = masks.encode(np.zeros((32, 48), bool))
    (folder / "train.json").write_text(json.dumps(tree))
    ours.register_datasets(tmp_path)
    return tmp_path


def test_registering_reads_nothing_and_happens_once(
    tmp_path: Path, catalog: None, caplog: pytest.LogCaptureFixture
) -> None:
    DatasetCatalog.register(TRAIN, lambda: ["as Mask2Former registered it"])
    new = ours.register_datasets(tmp_path / "nowhere")
    assert set(new) == set(SPLITS) - {TRAIN}
    assert TRAIN in caplog.text
    assert DatasetCatalog.get(TRAIN) == ["as Mask2Former registered it"]
    assert ours.register_datasets(tmp_path) == []
    with pytest.raises(DataError, match="nowhere"):
        DatasetCatalog.get(VALID)


def test_the_root_is_that_of_the_environment(tmp_path: Path, catalog: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    ours.register_datasets()
    assert MetadataCatalog.get("ovis_val").json_file == str(tmp_path / "ovis" / "valid.json")


def test_video_dicts_hold_what_the_file_holds(root: Path) -> None:
    dataset = VideoDataset.load(root / "ytvis_2019", "train.json")
    videos = DatasetCatalog.get(TRAIN)
    assert MetadataCatalog.get(TRAIN).thing_classes == [category.name for category in dataset.categories]
    assert len(videos) == len(dataset.videos)
    for found, video in zip(videos, dataset.videos, strict=True):
        assert (found["video_id"], found["length"]) == (video.id, len(video))
        assert (found["height"], found["width"]) == (video.height, video.width)
        assert all(Path(name).is_file() for name in found["file_names"])
        for t, listed in enumerate(found["annotations"]):
            by_id = {annotation["id"]: annotation for annotation in listed}
            assert set(by_id) == {track.id for track in video.tracks if track.mask(t).any()}
            for track in video.tracks:
                if track.id in by_id:
                    _check_annotation(by_id[track.id], track.label, track.mask(t))


def _check_annotation(annotation: dict[str, Any], label: int, mask: Any) -> None:
    assert annotation["category_id"] == label
    assert (masks.decode(annotation["segmentation"], *mask.shape, "test") == mask).all()
    rows, columns = np.nonzero(mask)
    left, top, width, height = annotation["bbox"]
    assert (left, top, left + width - 1, top + height - 1) == (
        columns.min(),
        rows.min(),
        columns.max(),
        rows.max(),
    )


def test_a_training_clip(root: Path, tiny_cfg: Any) -> None:
    """All frames at their own size: every mask is one of the file's, every instance is in every frame's list."""
    video = DatasetCatalog.get(TRAIN)[0]
    clip = ours.VideoMapper(tiny_cfg, True)(video)
    assert len(clip["image"]) == len(clip["instances"]) == len(clip["file_names"]) == 3
    assert clip["image"][0].dtype == torch.uint8
    for name, frame in zip(clip["file_names"], clip["instances"], strict=True):
        annotations = {a["id"]: a for a in video["annotations"][video["file_names"].index(name)]}
        size = (video["height"], video["width"])
        assert frame.image_size == size
        assert len(frame) == len(clip["instances"][0])
        assert {int(i) for i in frame.gt_ids} - {-1} == set(annotations)
        for track_id, mask in zip(frame.gt_ids.tolist(), frame.gt_masks.tensor, strict=True):
            expected = annotations.get(track_id)
            wanted = np.zeros(size, bool) if expected is None else masks.decode(expected["segmentation"], *size, "test")
            assert (mask.numpy() == wanted).all()


def test_one_augmentation_for_the_whole_clip(root: Path) -> None:
    video = DatasetCatalog.get(TRAIN)[0]
    settings = {"image_format": "RGB", "frames": 4, "frame_range": 9}
    video["annotations"] = [[a | {"iscrowd": 0} for a in frame] for frame in video["annotations"]]
    plain = ours.VideoMapper(True, augmentations=[], **settings)(video)
    mirror = [T.RandomFlip(prob=1.0)]
    flipped = ours.VideoMapper(True, augmentations=mirror, **settings)(video)
    assert plain["file_names"] == flipped["file_names"] == video["file_names"], "four of four frames, in order"
    for t in range(4):
        assert torch.equal(flipped["image"][t], plain["image"][t].flip(-1))
        assert torch.equal(flipped["instances"][t].gt_masks.tensor, plain["instances"][t].gt_masks.tensor.flip(-1))


def test_crowds_are_no_targets(root: Path, tiny_cfg: Any) -> None:
    video = DatasetCatalog.get(TRAIN)[0]
    video["annotations"] = [[a | {"iscrowd": 1} for a in frame] for frame in video["annotations"]]
    clip = ours.VideoMapper(tiny_cfg, True)(video)
    assert [len(frame) for frame in clip["instances"]] == [0, 0, 0]


def test_training_and_evaluating_with_detectron2s_own_loops(root: Path, tiny_cfg: Any, tmp_path: Path) -> None:
    """A simple trainer, its loader, and inference over the validation split."""
    torch.manual_seed(0)
    tiny_cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(VideoDataset.load(root / "ytvis_2019", "train.json").categories)
    model = build_model(tiny_cfg)
    videos, mapper = DatasetCatalog.get(TRAIN), ours.VideoMapper(tiny_cfg, True)
    loader = build_detection_train_loader(
        videos, mapper=mapper, total_batch_size=2, num_workers=0, aspect_ratio_grouping=False
    )
    before = [p.detach().clone() for p in model.parameters()]
    trainer = SimpleTrainer(model, loader, torch.optim.AdamW(model.parameters(), 1e-3))
    trainer.train(0, 2)
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    test_loader = build_detection_test_loader(
        DatasetCatalog.get(VALID), mapper=ours.VideoMapper(tiny_cfg, False), num_workers=0
    )
    metrics = inference_on_dataset(model, test_loader, ours.VideoEvaluator(VALID, tmp_path))["segm"]
    assert 0 <= metrics["AP"] <= metrics["AP50"] <= 100
    assert (tmp_path / "results.json").exists()


def _copy_ground_truth(evaluator: Any, name: str, change: Callable[[int], int] = lambda label: label) -> None:
    """Give the annotations as predictions."""
    for video in DatasetCatalog.get(name):
        tracks: dict[int, tuple[int, torch.Tensor]] = {}
        size = (video["height"], video["width"])
        for t, listed in enumerate(video["annotations"]):
            for a in listed:
                empty = torch.zeros(video["length"], *size, dtype=torch.bool)
                _, tube = tracks.setdefault(a["id"], (change(a["category_id"]), empty))
                tube[t] = torch.from_numpy(masks.decode(a["segmentation"], *size, "test"))
        outputs = {
            "pred_scores": [0.5] * len(tracks),
            "pred_labels": [label for label, _ in tracks.values()],
            "pred_masks": [tube for _, tube in tracks.values()],
        }
        evaluator.process([{"video_id": video["video_id"]}], outputs)


def test_copied_ground_truth_is_perfect(root: Path, tmp_path: Path) -> None:
    evaluator = ours.VideoEvaluator(VALID, tmp_path / "out")
    _copy_ground_truth(evaluator, VALID)
    metrics = evaluator.evaluate()["segm"]
    assert [metrics[name] for name in ("AP", "AP50", "AP75", "AR10")] == pytest.approx([100] * 4)
    assert 0 < metrics["AR1"] <= metrics["AR10"]
    dataset = VideoDataset.load(root / "ytvis_2019", "valid.json")
    found = read_results(tmp_path / "out" / "results.json", [category.id for category in dataset.categories])
    assert sum(len(p.tracks) for p in found) == sum(len(video.tracks) for video in dataset.videos)
    evaluator.reset()
    assert evaluator.evaluate()["segm"]["AP"] == 0


def test_wrong_classes_are_not(root: Path) -> None:
    evaluator = ours.VideoEvaluator(VALID)
    classes = len(
        MetadataCatalog.get(VALID).get("thing_classes")
        or VideoDataset.load(root / "ytvis_2019", "valid.json").categories
    )
    _copy_ground_truth(evaluator, VALID, lambda label: (label + 1) % classes)
    assert evaluator.evaluate()["segm"]["AP"] < 50


def test_without_labels_there_are_results_only(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluator = ours.VideoEvaluator("ytvis_2019_test", tmp_path)
    tube = torch.zeros(4, 32, 48, dtype=torch.bool)
    video_id = DatasetCatalog.get("ytvis_2019_test")[0]["video_id"]
    evaluator.process([{"video_id": video_id}], {"pred_scores": [0.5], "pred_labels": [0], "pred_masks": [tube]})
    with caplog.at_level(logging.WARNING):
        assert evaluator.evaluate() == {}
    assert "no labels" in caplog.text
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows[0]["segmentations"] == [None] * 4


def test_predictions_of_all_processes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two evaluators as two processes would have them; only the main one evaluates and writes."""
    whole = ours.VideoEvaluator(VALID, tmp_path)
    _copy_ground_truth(whole, VALID)
    parts = [whole._predictions[1:], whole._predictions[:1]]
    monkeypatch.setattr(comm, "gather", lambda data, dst: parts if comm.is_main_process() else [])
    whole._predictions = parts[0]
    assert whole.evaluate()["segm"]["AP"] == 100
    order = [row["video_id"] for row in json.loads((tmp_path / "results.json").read_text())]
    assert order == sorted(order)
    (tmp_path / "results.json").unlink()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert whole.evaluate() == {}
    assert not (tmp_path / "results.json").exists()


def test_another_order_of_classes_is_refused(root: Path) -> None:
    """Mask2Former numbers the classes in the order of their ids, we in the order of the file."""
    DatasetCatalog.register("mine", list)
    ids = {9: 0, 1: 1, 2: 2}
    metadata = MetadataCatalog.get("mine")
    metadata.set(json_file=str(root / "ytvis_2019" / "valid.json"), thing_dataset_id_to_contiguous_id=ids)
    with pytest.raises(DataError, match="class indices"):
        ours.VideoEvaluator("mine")
