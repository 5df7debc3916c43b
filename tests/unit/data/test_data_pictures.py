"""Panels, contact sheets and video files: the right pixels in the right colours, absent tracks named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from syncvis.data import video_writer
from syncvis.data.contact_sheet import evenly, write_contact_sheet, write_overlay_video
from syncvis.data.panels import CAPTION, Layer, Predictions, layers, panel
from syncvis.data.video_writer import encoder, write_video
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import ConfigError, DataError, StorageError
from syncvis.ops import masks as rle
from syncvis.structures import Track, VideoPrediction
from syncvis.visualization import Pixels, track_colour

GREY = np.full((20, 30, 3), 90, np.uint8)


def _layer(present: Sequence[bool], ids: Sequence[int] | None = None) -> Layer:
    """Track g covers rows 4 g .. 4 g + 3 of all columns."""
    masks = np.zeros((len(present), 20, 30), bool)
    for g, there in enumerate(present):
        masks[g, 4 * g : 4 * g + 4] = there
    return Layer("annotated", ids or range(len(present)), ["thing"] * len(present), lambda t: masks)


def _holds(picture: Pixels, track_id: int) -> bool:
    return bool((picture == track_colour(track_id)).all(-1).any())


def _gif(path: Path) -> list[Pixels]:
    with Image.open(path) as image:
        return [np.asarray(_frame(image, n)) for n in range(getattr(image, "n_frames", 1))]


def _frame(image: Image.Image, index: int) -> Image.Image:
    image.seek(index)
    return image.convert("RGB")


def _predictions(root: Path, dataset: VideoDataset, frames: int | None = None, score: float = 0.9) -> Predictions:
    """One track in the upper half of the last frame of the first video."""
    video = dataset.videos[0]
    half = np.zeros((video.height, video.width), bool)
    half[: video.height // 2] = True
    masks = (*[None] * ((frames or len(video)) - 1), rle.encode(half))
    found = VideoPrediction(video.id, (Track(0, score, masks), Track(0, 0.1, masks)))
    return Predictions(root / "results.json", {video.id: found}, 0.3)


@pytest.fixture
def dataset(tiny_data: Path) -> VideoDataset:
    return VideoDataset.load(tiny_data, "valid.json")


def test_a_panel_is_enlarged_below_its_caption() -> None:
    picture = panel(GREY, _layer([]), 0, 60, full_tags=False)
    assert picture.shape == (CAPTION + 60, 90, 3)
    assert (picture[CAPTION:] == 90).all()


@pytest.mark.parametrize("height", [60, 10])
def test_masks_go_with_their_pixels(height: int) -> None:
    """The tint ends where the mask, enlarged or made smaller, ends: after 4 of 20 rows."""
    picture = panel(GREY, _layer([True]), 0, height, full_tags=False)[CAPTION:]
    tinted = (picture != 90).any(-1)[:, -1]  # the tag stands in the middle
    assert tinted.tolist() == [True] * (height // 5) + [False] * (height - height // 5)


def test_absent_tracks_are_named_in_the_caption_in_their_colour() -> None:
    picture = panel(GREY, _layer([True, False], [3, 8]), 0, 120, full_tags=False)
    assert _holds(picture[CAPTION:], 3)
    assert not _holds(picture[CAPTION:], 8)
    assert _holds(picture[:CAPTION], 8)
    assert not _holds(picture[:CAPTION], 3)


def test_more_absent_tracks_than_fit_end_in_dots() -> None:
    picture = panel(GREY, _layer([False] * 5, [1, 2, 3, 4, 5]), 0, 100, full_tags=False)
    shown = [_holds(picture[:CAPTION], track_id) for track_id in (1, 2, 3, 4, 5)]
    assert shown == [True, True, False, False, False]


def test_tags_do_not_cover_each_other() -> None:
    masks = np.ones((3, 20, 30), bool)
    layer = Layer("annotated", [1, 2, 3], ["thing"] * 3, lambda t: masks)
    picture = panel(GREY, layer, 0, 160, full_tags=True)[CAPTION:]
    inner = picture[5:-5, 5:-5]  # outlines are opaque too
    assert [_holds(inner, track_id) for track_id in (1, 2, 3)] == [True] * 3


def test_a_mask_that_vanishes_with_the_size_is_no_fault() -> None:
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 0, 0] = True
    assert panel(GREY, Layer("annotated", [1], ["dot"], lambda t: mask), 0, 4, True).shape == (CAPTION + 4, 6, 3)


def test_layers_of_annotation_and_prediction(dataset: VideoDataset, tmp_path: Path) -> None:
    annotated, predicted = layers(dataset, dataset.videos[0], _predictions(tmp_path, dataset))
    tracks = dataset.videos[0].tracks
    assert list(annotated.ids) == [track.id for track in tracks]
    assert np.array_equal(annotated.masks(2), [track.mask(2) for track in tracks])
    assert str(predicted) == f"predicted >= 0.3: 1 {dataset.categories[0].name} 0.90"  # the other one scores too low
    assert [int(predicted.masks(t).sum()) for t in range(4)] == [0, 0, 0, 16 * 48]


def test_videos_without_predictions_or_without_labels(dataset: VideoDataset, tmp_path: Path) -> None:
    predictions = _predictions(tmp_path, dataset)
    assert str(layers(dataset, dataset.videos[1], predictions)[1]) == "predicted >= 0.3: no instances"
    bare = dataset.videos[0].__class__(1, 32, 48, dataset.videos[0].file_names)
    assert [layer.title for layer in layers(dataset, bare, predictions)] == ["predicted >= 0.3"]
    assert [str(layer) for layer in layers(dataset, bare, None)] == ["annotated: no instances"]


def test_predictions_of_other_videos_are_refused(dataset: VideoDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: prediction for video 1: 3 masks for 4 frames"):
        layers(dataset, dataset.videos[0], _predictions(tmp_path, dataset, frames=3))


def test_predictions_add_a_row_to_the_sheet(dataset: VideoDataset, tmp_path: Path) -> None:
    with (
        Image.open(write_contact_sheet(dataset, tmp_path / "a.png", 2, 3)) as plain,
        Image.open(write_contact_sheet(dataset, tmp_path / "b.png", 2, 3, _predictions(tmp_path, dataset))) as both,
    ):
        assert both.height - plain.height > 2 * 160
        assert both.width == plain.width


@pytest.mark.parametrize(
    ("length", "most", "frames"),
    [(4, 8, [0, 1, 2, 3]), (9, 3, [0, 4, 8]), (1, 5, [0]), (100, 1, [0]), (1000, 4, [0, 333, 666, 999])],
)
def test_frames_are_evenly_spread(length: int, most: int, frames: list[int]) -> None:
    assert evenly(length, most) == frames


def _decoded(path: Path) -> list[Pixels]:
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.skipif(encoder() is None, reason="this PyAV has no encoder for videos")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_holds_the_pictures_in_order(tmp_path: Path, suffix: str) -> None:
    pictures = [np.full((33, 41, 3), shade, np.uint8) for shade in (20, 120, 220)]
    frames = _decoded(write_video(tmp_path / "new" / f"clip{suffix}", lambda: pictures, 5))
    assert [frame.shape for frame in frames] == [(34, 42, 3)] * 3
    assert [float(frame.mean()) for frame in frames] == pytest.approx([20, 120, 220], abs=4)


def test_mpeg4_and_a_gif_stand_in_where_there_is_no_better_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [np.full((32, 48, 3), shade, np.uint8) for shade in (20, 220)]
    monkeypatch.setattr(video_writer, "ENCODERS", ("nothing", "mpeg4"))
    assert [round(float(f.mean()), -1) for f in _decoded(write_video(tmp_path / "b.mp4", lambda: pictures, 5))] == [
        20,
        220,
    ]
    monkeypatch.setattr(video_writer, "ENCODERS", ("nothing",))
    path = write_video(tmp_path / "a.mp4", lambda: pictures, 5)
    assert path == tmp_path / "a.gif"
    assert [float(frame.mean()) for frame in _gif(path)] == [20, 220]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clip\.avi: is not the name of a video.*\.mp4"):
        write_video(tmp_path / "clip.avi", list, 5)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be written"):
        write_video(tmp_path / "file" / name, lambda: [GREY], 5)


def test_the_video_of_a_data_set_is_evenly_thinned_out(dataset: VideoDataset, tmp_path: Path) -> None:
    """Annotation above, prediction below, only in the last frame; GIF keeps colours nearly as they are."""
    predictions = _predictions(tmp_path, dataset)
    frames = _gif(write_overlay_video(dataset, tmp_path / "clip.gif", 2, 6, predictions))
    assert len(frames) == 2
    assert {frame.shape for frame in frames} == {(2 * (CAPTION + 360), 540, 3)}
    lower = [frame[2 * CAPTION + 360 :] for frame in frames]
    original = np.asarray(Image.fromarray(dataset.read_frame(dataset.videos[0], 0)).resize((540, 360), 0))
    assert np.abs(lower[0].astype(int) - original).mean() < 12
    colour = np.array(track_colour(1))
    assert [bool((np.abs(part.astype(int) - colour).max(-1) < 40).any()) for part in lower] == [False, True]
