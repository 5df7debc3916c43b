"""Pictures and videos as people see them: turned by EXIF and by display matrices, here and in what a check says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import HEIGHT, MATRICES, WIDTH, cut, patch_matrix, picture, write_clip
from numpy.typing import NDArray
from PIL import Image, ImageOps

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Finding
from syncvis.data.frames import FrameReader
from syncvis.data.single import open_video
from syncvis.data.turns import turn_of_matrix
from syncvis.data.video_file import VideoFile
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError

SWAPPED = ("90 clockwise", "270 clockwise", "transposed", "transversed")
RED_CORNERS = {  # (row, column) as shown, 0 for the first half and 1 for the last
    "upright": (0, 0),
    "90 clockwise": (0, 1),
    "180": (1, 1),
    "270 clockwise": (1, 0),
    "mirrored": (0, 1),
    "upside down": (1, 0),
    "transposed": (0, 0),
    "transversed": (1, 1),
}


def _as_shown(stored: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pixel for pixel by the definition: the stored point (p, q) is shown at (a p + c q, b p + d q)."""
    a, b, c, d = (np.sign(number) for number in matrix)
    places = {}
    for q, p in np.ndindex(stored.shape[:2]):
        places[b * p + d * q, a * p + c * q] = stored[q, p]
    rows, columns = (sorted({place[axis] for place in places}) for axis in (0, 1))
    return np.array([[places[row, column] for column in columns] for row in rows])


@pytest.mark.parametrize("name", MATRICES)
def test_a_video_is_shown_as_its_display_matrix_says(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "stored.mp4")
    stored = VideoFile(path).read(2, HEIGHT, WIDTH)
    patch_matrix(path.rename(tmp_path / "a.mp4"), MATRICES[name])
    file = VideoFile(tmp_path / "a.mp4")
    assert file.size == ((WIDTH, HEIGHT) if name in SWAPPED else (HEIGHT, WIDTH))
    shown = file.read(2, *file.size)
    np.testing.assert_array_equal(shown, _as_shown(stored, MATRICES[name]))
    row, column = RED_CORNERS[name]
    corner = shown[-8:] if row else shown[:8]
    corner = corner[:, -8:] if column else corner[:, :8]
    assert (corner[..., 0] > 180).all()
    assert (corner[..., 1] < 80).all()
    reader = FrameReader(tmp_path)
    for t in (3, 0, 2):
        assert reader.read(f"a.mp4#{t}", *file.size).flags.c_contiguous
    np.testing.assert_array_equal(reader.read("a.mp4#2", *file.size), shown)


def test_which_turns_a_matrix_can_mean() -> None:
    """Its scale does not matter, nor do zeros; no angle is rounded."""
    assert turn_of_matrix(np.array([0, 7, -7, 0], np.int32)) == turn_of_matrix(
        np.array([2, 90_000, -90_000, 2], np.int32)
    )
    assert turn_of_matrix(np.zeros(4, np.int32)) == (False, False, False)
    assert turn_of_matrix(np.array([-(2**31), 0, 0, -(2**31)], np.int32)) == (False, True, True)
    with pytest.raises(ValueError, match="no multiple of 90 degrees"):
        turn_of_matrix(np.array([46341, 46341, -46341, 46341], np.int32))


def test_a_video_that_leans_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", matrix=(46341, 46341, -46341, 46341))
    with pytest.raises(DataError, match=r"a\.mp4: cannot be read .*no multiple of 90 degrees\)\. Fix: copy or encode"):
        open_video(path, [Category(1, "x")], 10)


def test_the_size_of_the_stored_pixels_is_explained(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", matrix=MATRICES["90 clockwise"])
    sizes = rf"its frames are {WIDTH} x {HEIGHT} pixels, not {HEIGHT} x {WIDTH} \(height x width\)"
    with pytest.raises(DataError, match=rf"{sizes}: turned by the display matrix, .* stored pixels\. Fix: turn height"):
        VideoFile(path).read(0, HEIGHT, WIDTH)
    with pytest.raises(DataError, match=r"not 9 x 9 \(height x width\)\. Fix: give frames, masks and video one size"):
        VideoFile(path).read(0, 9, 9)
    with pytest.raises(DataError, match=rf"not {WIDTH} x {HEIGHT} \(height x width\)\. Fix: give frames"):
        VideoFile(write_clip(tmp_path / "b.mp4")).read(0, WIDTH, HEIGHT)
    _save(tmp_path / "a.jpg", 6)
    with pytest.raises(DataError, match=r"the frame is 48 x 32 pixels, .*: turned by EXIF, .*Fix: turn height, width"):
        FrameReader(tmp_path).read("a.jpg", HEIGHT, WIDTH)


def _save(path: Path, orientation: int) -> Path:
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.tif"])
def test_images_of_every_format_are_turned_once(tmp_path: Path, name: str, orientation: int) -> None:
    """Pillow turns a TIFF by itself when it decodes it, and says the turned size before."""
    with Image.open(_save(tmp_path / name, orientation)) as saved:
        wanted = np.asarray(ImageOps.exif_transpose(saved))
    assert wanted.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    np.testing.assert_array_equal(FrameReader(tmp_path).read(name, *wanted.shape[:2]), wanted)


def _dataset(root: Path, size: tuple[int, int], mask_size: tuple[int, int] | None, **video: Any) -> Path:
    """One video, and one annotation if there is a size for its masks."""
    mask = mask_size and {"size": mask_size, "counts": [0, 4, HEIGHT * WIDTH - 4]}
    length = len(video.get("file_names", "1234"))
    track = {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": [mask] * length}
    tree = {
        "videos": [{"id": 1, "height": size[0], "width": size[1]} | video],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [track] if mask_size else [],
    }
    (root / "own.json").write_text(json.dumps(tree))
    return root / "own.json"


def _findings(source: Path, deep: bool = False) -> dict[str, Finding]:
    found = check_file(source, Settings(deep=deep)).findings
    assert len({finding.code for finding in found}) == len(found)
    return {finding.code: finding for finding in found if finding.code != "no-annotations"}


def test_a_check_notes_turned_frames(tmp_path: Path) -> None:
    """180 degrees and masks of the stored pixels: no size tells, so a note has to."""
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    names = [_save(folder / f"{t}.jpg", 1 if t == 1 else 3).name for t in range(4)]
    source = _dataset(tmp_path, (HEIGHT, WIDTH), (HEIGHT, WIDTH), file_names=names)
    (found,) = _findings(source, deep=True).values()
    assert (found.code, found.frame, found.key) == ("frames-turned", 0, "videos[0].file_names[0]")
    assert found.text.startswith("3 of 4 frames are turned by EXIF")
    write_clip(folder / "a.mp4", matrix=MATRICES["180"])
    (found,) = _findings(_dataset(tmp_path, (HEIGHT, WIDTH), (HEIGHT, WIDTH), file_name="a.mp4"), deep=True).values()
    assert (found.code, found.frame, found.key) == ("frames-turned", None, "videos[0].file_name")
    assert found.text.startswith("the video is turned by the display matrix")
    write_clip(folder / "a.mp4", matrix=MATRICES["upright"])
    assert not _findings(source.parent / "own.json", deep=True)


@pytest.mark.parametrize("kind", ["images", "video"])
def test_a_check_explains_the_size_of_the_stored_pixels(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    if kind == "images":
        video: dict[str, Any] = {"file_names": [_save(folder / f"{t}.jpg", 6).name for t in range(4)]}
    else:
        video = {"file_name": write_clip(folder / "a.mp4", matrix=MATRICES["90 clockwise"]).name}
    what = "EXIF" if kind == "images" else "the display matrix"
    assert set(_findings(_dataset(tmp_path, (WIDTH, HEIGHT), (WIDTH, HEIGHT), **video))) == {"frames-turned"}
    stored = _findings(_dataset(tmp_path, (HEIGHT, WIDTH), (HEIGHT, WIDTH), **video))["video-image-size"]
    assert f"(height x width): turned by {what}, the JSON has the size of the stored pixels; turn height" in stored.text
    assert stored.mend is None, "the masks would have to be turned too"
    only_size = _findings(_dataset(tmp_path, (HEIGHT, WIDTH), None, **video))["video-image-size"]
    assert only_size.mend is not None
    assert only_size.mend.how == f"set height and width to {WIDTH} and {HEIGHT}"
    dataset = VideoDataset.load(tmp_path, _dataset(tmp_path, (WIDTH, HEIGHT), None, **video).name)
    assert (dataset.read_frame(dataset.videos[0], 1)[:8, -8:, 0] > 180).all(), "turned clockwise"
    dataset = VideoDataset.load(tmp_path, _dataset(tmp_path, (HEIGHT, WIDTH), None, **video).name)
    with pytest.raises(DataError, match=f"turned by {what}, the JSON has the size of the stored pixels"):
        dataset.read_frame(dataset.videos[0], 1)


def test_a_video_that_is_turned_and_cut_says_both(tmp_path: Path) -> None:
    turn, first = MATRICES["90 clockwise"], {"movflags": "faststart"}
    path = write_clip(tmp_path / "a.mp4", 60, "mpeg4", turn, options=first)
    said: list[str] = []
    dataset = open_video(cut(path), [Category(1, "x")], 100, said.append)
    video = dataset.videos[0]
    assert (video.height, video.width) == (WIDTH, HEIGHT)
    assert [line.partition(": ")[0] for line in said] == ["warning", "note"]
    assert f"note: {path}: is turned by its display matrix" in said[1]
