"""A folder of frames as one video: the order of its images, what is passed over, and what is said about it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Severity
from syncvis.data.frame_folder import KINDS
from syncvis.data.single import open_video
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError


def _save(folder: Path, *names: str, size: tuple[int, int] = (20, 10)) -> None:
    """Images of one colour, which tells the first number in their names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        number = int("".join(c for c in name if c.isdigit()) or "0")
        Image.new("RGB", size, (number % 256, 0, 0)).save(folder / name)


def _open(source: Path) -> tuple[VideoDataset, list[str]]:
    said: list[str] = []
    dataset = open_video(source, [Category(1, "x")], 500, said.append)
    assert all(line.startswith(f"note: {source}: ") for line in said)
    return dataset, [line.removeprefix(f"note: {source}: ") for line in said]


def test_numbers_are_in_order_without_zeros_in_front(tmp_path: Path) -> None:
    _save(tmp_path / "v", *(f"{n}.png" for n in range(1, 13)))
    dataset, said = _open(tmp_path / "v")
    video = dataset.videos[0]
    assert [dataset.read_frame(video, t)[0, 0, 0] for t in range(12)] == list(range(1, 13))
    assert said == []


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["img10.png", "img9.png", "img100.png"], ["img9.png", "img10.png", "img100.png"]),
        (["2_1.png", "1_10.png", "1_9.png"], ["1_9.png", "1_10.png", "2_1.png"]),
        (["00002.png", "00010.png", "00001.png"], ["00001.png", "00002.png", "00010.png"]),
        (["b.png", "a.png", "c.png"], ["a.png", "b.png", "c.png"]),
    ],
)
def test_natural_order(tmp_path: Path, names: list[str], order: list[str]) -> None:
    _save(tmp_path / "v", *names)
    assert list(_open(tmp_path / "v")[0].videos[0].file_names) == order


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    _save(folder, "1.png", "2.png")
    for name in ("._1.png", ".hidden.png", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt"):
        (folder / name).write_bytes(b"no image")
    (folder / "more").mkdir()
    (folder / "a.mp4").touch()
    dataset, said = _open(folder)
    assert dataset.videos[0].file_names == ("1.png", "2.png")
    assert said == ["passed over: 1 folder, 5 hidden files, 1 other file, 1 video file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_passed_over(tmp_path: Path) -> None:
    _save(tmp_path / "v", "1.png")
    os.mkfifo(tmp_path / "v" / "2.png")
    assert _open(tmp_path / "v")[1] == ["passed over: 1 other file"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1.png", "2.png", "3.png", "10.png"], ["frame numbers jump from 3 to 10 (usual step 1)"]),
        (
            [f"f{n}.png" for n in (0, 5, 10, 20, 25, 40, 45)],
            ["frame numbers jump from 10 to 20, from 25 to 40 (usual step 5)"],
        ),
        (
            ["1.png", "01.png", "2.png", "3.png"],
            ["1 frame number there twice (1.png): are these frames of one video?"],
        ),
        ([f"{n}.png" for n in (103, 171, 230, 309, 350)], []),
        (["f_00.png", "f_05.png", "f_10.png"], []),
        (["7.png"], []),
        (["a1.png", "a2.png", "b1.png"], ["the names are of 2 kinds (a#, b#), taken in natural order: one video?"]),
        (
            ["a.png", "1.png"],
            ["the names are of 2 kinds (#, names without a number), taken in natural order: one video?"],
        ),
    ],
)
def test_numbers_that_jump(tmp_path: Path, names: list[str], said: list[str]) -> None:
    _save(tmp_path / "v", *names)
    assert _open(tmp_path / "v")[1] == said


@pytest.mark.parametrize("suffix", [suffix for suffixes in KINDS.values() for suffix in suffixes])
def test_every_documented_format_is_read_by_itself(tmp_path: Path, suffix: str) -> None:
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    for n in range(2):
        folder = tmp_path / "v"
        folder.mkdir(exist_ok=True)
        Image.new(mode, (20, 10), 1).save(folder / f"{n}{suffix.upper() if n else suffix}")
    dataset, said = _open(tmp_path / "v")
    assert (len(dataset.videos[0]), said) == (2, [])
    assert dataset.read_frame(dataset.videos[0], 1).shape == (10, 20, 3)


def _mixed(folder: Path) -> None:
    _save(folder, "0.tif", "1.tif", "2.tif", "9.jpg")


def _two_sizes(folder: Path) -> None:
    _save(folder, "1.png", "2.png", "4.png")
    _save(folder, "3.png", size=(10, 20))


def _two_sizes_by_exif(folder: Path) -> None:
    _save(folder, "1.jpg", "2.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(folder / "3.jpg", exif=exif)


def _damaged(folder: Path) -> None:
    _save(folder, "1.png")
    for name in ("2.png", "3.png"):
        (folder / name).write_bytes(b"no image")


def _videos(folder: Path) -> None:
    folder.mkdir()
    for name in ("b.mp4", "a.mov", "10.mkv", "9.mkv"):
        (folder / name).touch()


def _folders(folder: Path) -> None:
    for name in ("v1", "v10", "v2"):
        (folder / name).mkdir(parents=True)


def _nothing_of_use(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").touch()
    (folder / ".a.png").touch()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            _mixed,
            r"v: has images of 2 kinds: 1 JPEG \(9\.jpg\), 3 TIFF \(0\.tif\)\. Fix: leave the frames of one video",
        ),
        (_two_sizes, r"v: has frames of 2 sizes .*: 3 of 10 x 20 \(1\.png, \.\.\.\), 1 of 20 x 10 \(3\.png\)\. Fix: "),
        (_two_sizes_by_exif, r"1 of 20 x 10 \(3\.jpg\); EXIF turns 1 of them by 90 degrees\. Fix: "),
        (_damaged, r"2\.png: the frame is not an image; 1 other frame cannot be read either\. Fix: "),
        (
            _videos,
            r"v: has no images, but 4 video files: 9\.mkv, 10\.mkv, a\.mov and 1 more\. Fix: .* such as .*v/9\.mkv",
        ),
        (_folders, r"v: has no images, but 3 folders: v1, v2, v10\. Fix: give one folder, such as .*v/v1"),
        (
            _nothing_of_use,
            r"v: has no images, but 1 hidden file, 1 other file\. Fix: give a folder of frames \(\.jpg, ",
        ),
    ],
)
def test_folders_that_are_no_video(tmp_path: Path, make: Callable[[Path], None], problem: str) -> None:
    make(tmp_path / "v")
    with pytest.raises(DataError, match=problem) as caught:
        _open(tmp_path / "v")
    assert "\n" not in str(caught.value)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    for name, problem in (("none", "there is no such file or folder"), ("none.mp4", "cannot be read as a video")):
        with pytest.raises(DataError, match=rf"{name}: {problem}.*Fix: "):
            _open(tmp_path / name)


def test_remarks_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(tmp_path / "v", "1.png", "2.png", "3.png", "9.png")
    open_video(tmp_path / "v", [Category(1, "x")], 10)
    path = write_clip(tmp_path / "a.mkv", 90, "ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    open_video(path, [Category(1, "x")], 100)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(": ")[0] for line in err.splitlines()] == ["note", "warning"]


def test_several_pictures_in_a_file_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    pictures = [Image.fromarray(np.full((10, 20, 3), 80 * n, np.uint8)) for n in range(3)]
    names = ["0.gif", "1.tif", "2.png", "3.webp"]
    for name in names:
        pictures[0].save(folder / name, save_all=True, append_images=pictures[1:])
    pictures[0].save(folder / "4.jpg")
    video = {"id": 1, "height": 10, "width": 20, "file_names": [*names, "4.jpg"]}
    (tmp_path / "own.json").write_text(json.dumps({"videos": [video], "categories": []}))
    found = [one for one in check_file(tmp_path / "own.json", Settings(deep=True)).findings if "pictures" in one.code]
    assert [(one.code, one.severity, one.key) for one in found] == [
        ("several-pictures", Severity.NOTE, f"videos[0].file_names[{t}]") for t in range(4)
    ]
    for name in names[1:]:
        (folder / name).unlink()
    (folder / "4.jpg").unlink()
    assert _open(folder)[1] == ["1 of 1 files hold several pictures, of which the first is read (0.gif)"]
