"""Label maps of a frame: which pixel belongs to which track, and that they can be read back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from syncvis.data.ytvis import VideoDataset
from syncvis.errors import StorageError
from syncvis.ops.masks import encode
from syncvis.structures import Track, VideoPrediction
from syncvis.training.label_maps import LabelMaps, label_map
from syncvis.training.overlays import label_maps, write_overlays


def test_later_ones_lie_on_top() -> None:
    masks = np.zeros((2, 1, 3), bool)
    masks[0, 0, :2] = masks[1, 0, 1:] = True
    assert label_map(masks, [0, 1], (1, 3)).tolist() == [[1, 2, 2]]
    assert label_map(masks, [1, 0], (1, 3)).tolist() == [[1, 1, 2]]
    assert label_map(masks[:0], [], (1, 3)).tolist() == [[0, 0, 0]]


@pytest.fixture(scope="module")
def dataset(tiny_data: Path) -> VideoDataset:
    return VideoDataset.load(tiny_data, "valid.json")


def _prediction(dataset: VideoDataset, scores: tuple[float, ...]) -> VideoPrediction:
    """The whole frame, once per score, with the label of its number."""
    video = dataset.videos[0]
    whole = encode(np.ones((video.height, video.width), bool))
    return VideoPrediction(video.id, tuple(Track(n, s, (whole,) * len(video)) for n, s in enumerate(scores)))


def test_the_middle_frame_with_its_tracks(dataset: VideoDataset) -> None:
    video, names = dataset.videos[0], [category.name for category in dataset.categories]
    maps = label_maps(dataset, video, _prediction(dataset, (0.5, 0.9, 0.1)))
    assert np.array_equal(maps.frame, dataset.read_frame(video, len(video) // 2))
    assert maps.prediction_names == (f"{names[0]} #1 0.50", f"{names[1]} #2 0.90")
    assert (maps.prediction == 2).all()  # the better one
    assert maps.truth_names == tuple(f"{names[t.label]} #{n}" for n, t in enumerate(video.tracks, 1))
    for n, track in enumerate(video.tracks, 1):
        assert not (maps.truth[~track.mask(len(video) // 2)] == n).any()
    shown = maps.overlays()
    assert shown["prediction"]["class_labels"] == {1: maps.prediction_names[0], 2: maps.prediction_names[1]}
    assert shown["truth"]["mask_data"] is maps.truth


def test_they_lie_beside_the_pictures_and_come_back(dataset: VideoDataset, tmp_path: Path) -> None:
    prediction = _prediction(dataset, (0.5,))
    paths = write_overlays(tmp_path, dataset, [prediction])
    assert [path.suffix for path in paths] == [".png"]
    found, wanted = LabelMaps.load(paths[0].with_suffix(".npz")), label_maps(dataset, dataset.videos[0], prediction)
    for name, value in vars(wanted).items():
        assert np.array_equal(getattr(found, name), value), name
    assert isinstance(found.truth_names, tuple)


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04half"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "1.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=r"1\.npz: cannot be read as label maps"):
        LabelMaps.load(path)


def test_a_viewer_reads_them_without_torch() -> None:
    code = "import sys, syncvis.training.label_maps; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wandb_takes_them(dataset: VideoDataset) -> None:
    wandb = pytest.importorskip("wandb")
    maps = label_maps(dataset, dataset.videos[0], _prediction(dataset, (0.5,)))
    assert wandb.Image(maps.frame, masks=maps.overlays())._masks.keys() == {"truth", "prediction"}
