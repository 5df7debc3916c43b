from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from syncvis.data.frames import FrameReader
from syncvis.errors import DataError

BYTES = 10 * 20 * 3


def _write(path: Path, value: int = 9, size: tuple[int, int] = (20, 10)) -> Path:
    Image.new("RGB", size, (value, 0, 0)).save(path)
    return path


def test_frames_are_kept_up_to_the_limit_and_cannot_be_changed(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _write(tmp_path / name)
    reader = FrameReader(tmp_path, cache_bytes=BYTES)
    first, second = (reader.read(name, 10, 20) for name in ("a.png", "b.png"))
    assert reader.read("a.png", 10, 20) is first
    assert reader.read("b.png", 10, 20) is not second
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_a_pickled_reader_leaves_its_frames_behind(tmp_path: Path) -> None:
    _write(tmp_path / "a.png")
    reader = FrameReader(tmp_path)
    small = len(pickle.dumps(reader))
    frame = reader.read("a.png", 10, 20)
    assert len(pickle.dumps(reader)) == small
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read("a.png", 10, 20), frame)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (20, 10), (204, 204, 204)).convert(mode).save(tmp_path / "a.tiff")
    frame = FrameReader(tmp_path).read("a.tiff", 10, 20)
    assert frame.shape == (10, 20, 3)
    assert abs(frame.astype(int) - 204).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.pgm"])
def test_of_16_bits_the_upper_8_are_read(tmp_path: Path, name: str) -> None:
    grey = np.arange(200, dtype=np.uint16).reshape(10, 20)
    Image.fromarray(grey * 257).save(tmp_path / name)
    frame = FrameReader(tmp_path).read(name, 10, 20)
    np.testing.assert_array_equal(frame, np.stack([grey] * 3, axis=-1))


def test_pixels_without_a_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((10, 20), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff: .*\(its pixels are floating-point numbers\)\. Fix"):
        FrameReader(tmp_path).read("a.tiff", 10, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_frame_is_read_upright(tmp_path: Path, orientation: int) -> None:
    corners = np.zeros((16, 32, 3), np.uint8)
    corners[:8, :16, 0], corners[:8, 16:, 1], corners[8:, :16, 2] = 255, 255, 255
    image = Image.fromarray(corners)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as saved:
        wanted = np.asarray(ImageOps.exif_transpose(saved))
    np.testing.assert_array_equal(FrameReader(tmp_path).read("a.jpg", *wanted.shape[:2]), wanted)


def test_damaged_exif_data_do_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (9, 0, 0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff")
    assert FrameReader(tmp_path).read("a.jpg", 10, 20).shape == (10, 20, 3)


def test_missing_frame(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: the frame is missing\. Fix: add the file"):
        FrameReader(tmp_path).read("a.png", 10, 20)


def test_frame_of_another_size(tmp_path: Path) -> None:
    _write(tmp_path / "a.png", size=(30, 10))
    with pytest.raises(DataError, match=r"a\.png: the frame is 10 x 30 pixels, its video 10 x 20 .*Fix"):
        FrameReader(tmp_path).read("a.png", 10, 20)


@pytest.mark.parametrize("kind", ["text", "cut png", "cut jpg", "empty", "folder"])
def test_damaged_frame_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.jpg" if kind == "cut jpg" else "a.png")
    if kind == "folder":
        path.mkdir()
    elif kind.startswith("cut"):
        noise = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-150])
    else:
        path.write_bytes(b"hello" if kind == "text" else b"")
    with pytest.raises(DataError, match=rf"{path.name}: the frame is .*Fix: copy or extract the frame again") as caught:
        FrameReader(tmp_path).read(path.name, 10, 20)
    assert "\n" not in str(caught.value)
