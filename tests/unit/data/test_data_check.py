from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES, Copy, Damage, Found, clean_copy, found, set_mask
from helpers import REAL

from syncvis.data.check.checking import Settings, annotation_files, check_file
from syncvis.data.check.findings import KINDS, Severity, exit_code
from syncvis.data.video_writer import write_video
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import DataError


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Copy:
    return clean_copy(tiny_data, tmp_path / "copy")


def test_a_clean_data_set_has_no_findings(data: Copy) -> None:
    report = check_file(data.source, Settings(deep=True))
    assert report.findings == ()
    assert report.sizes == {"videos": 4, "frames": 16, "annotations": len(data.tree["annotations"]), "categories": 2}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_nothing_else(data: Copy, damage: Damage) -> None:
    expected = damage(data)
    data.save()
    report = check_file(data.source, Settings())
    assert found(report) == expected
    assert len(report.findings) == len(expected)
    assert exit_code(report.findings) == max(KINDS[code].severity.exit_code for code, *_ in expected)


def test_many_kinds_of_damage_are_all_found_at_once(data: Copy) -> None:
    """One in each frame of an annotation, and some beside them."""
    expected = set()
    kinds = ["mask is a number", "RLE cut off", "box moved", "area wrong"]
    for data.frame, kind in enumerate(kinds):
        expected |= DAMAGES[kind](data)
    for kind in ("frame is text", "iscrowd is 2", "length wrong", "category unused", "entry is text"):
        expected |= DAMAGES[kind](data)
    data.save()
    assert found(check_file(data.source, Settings())) == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is an empty file, not JSON"),
        (b'{"videos": [', "line 1, column 13"),
        (b"[1, 2]", "the file is [1, 2], not an object"),
        (b"\xff\xfe\x00", "not valid JSON text"),
        (b"[" * 100_000, "not valid JSON text"),
        (b'{"videos": ' + b"9" * 5000 + b"}", "not valid JSON text"),
    ],
)
def test_files_that_are_no_json_object(data: Copy, content: bytes, text: str) -> None:
    data.source.write_bytes(content)
    (finding,) = check_file(data.source, Settings()).findings
    assert (finding.code, finding.severity) == ("json", Severity.ERROR)
    assert text in finding.text


def test_half_an_image_is_found_by_decoding_it(data: Copy) -> None:
    data.image.write_bytes(data.image.read_bytes()[:-60])
    assert check_file(data.source, Settings()).findings == ()
    assert found(check_file(data.source, Settings(deep=True))) == data.in_video("unreadable-image", data.frame)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(data: Copy) -> None:
    data.image.unlink()
    os.mkfifo(data.image)
    assert found(check_file(data.source, Settings())) == data.in_video("unreadable-image", data.frame)


def test_frames_elsewhere(data: Copy, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    frames = (data.root / "JPEGImages").rename(tmp_path / "far" / "elsewhere")
    assert found(check_file(data.source, Settings())) == {("frames-folder", None, None, None)}
    assert check_file(data.source, Settings(frames=frames)).findings == ()
    with pytest.raises(DataError, match="there is no such folder"):
        check_file(data.source, Settings(frames=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("folder", "json_name"),
    [
        ("train", "annotations_train.json"),
        ("train/JPEGImages", "train/instances.json"),
        ("JPEGImages", "annotations/train.json"),
        ("train/JPEGImages", "annotations/instances_train.json"),
        ("videos", "own.json"),
    ],
)
def test_frames_are_found_where_the_reader_finds_them(data: Copy, folder: str, json_name: str) -> None:
    (data.root / "moved").mkdir()
    (data.root / "JPEGImages").rename(data.root / "moved" / "frames")
    (data.root / folder).parent.mkdir(exist_ok=True)
    (data.root / "moved" / "frames").rename(data.root / folder)
    (data.root / json_name).parent.mkdir(exist_ok=True)
    source = data.source.rename(data.root / json_name)
    assert VideoDataset.load(data.root, json_name).root == data.root / folder
    assert check_file(source, Settings(deep=True)).findings == ()


def test_video_files(data: Copy) -> None:
    """In place of the frames, or as their names; too short, cut off and missing ones are found."""
    frames = [np.full((32, 48, 3), 60 * t, np.uint8) for t in range(4)]
    clip = write_video(data.root / "JPEGImages" / "v" / "clip.mp4", lambda: frames, 6)
    first, second = data.tree["videos"][:2]
    for video in (first, second):
        video.update(height=32, width=48)
    second["file_names"] = [f"v/clip.mp4#{t}" for t in range(4)]
    del first["file_names"]
    data.tree["annotations"] = [entry for entry in data.tree["annotations"] if entry["video_id"] > second["id"]]
    clean = {("video-without-annotations", video["id"], None, None) for video in (first, second)}

    def findings(name: str, length: int) -> set[Found]:
        first.update(file_name=name, length=length)
        data.save()
        report = check_file(data.source, Settings(deep=True))
        codes = {finding.code for finding in report.findings}
        assert report.sizes["frames"] == 12 + (0 if "video-file" in codes else min(length, 4))
        return {one for one in found(report) - clean if one[0] not in ("category-unused",)}

    assert findings("v", 4) == findings("v/clip.mp4", 4) == set()
    assert findings("v", 6) == {("video-length", first["id"], None, None)}
    assert findings("v", 3) == {("video-part", first["id"], None, None)}
    assert findings("../v", 4) == findings("v/clip.txt", 4) == {("video-file", first["id"], None, None)}
    assert not any(one.mend for one in check_file(data.source, Settings()).findings), "no video is dropped for it"
    clip.write_bytes(clip.read_bytes()[:-300])
    once = ("video-file", first["id"], None, None)
    assert findings("v", 4) == {once} | {("unreadable-image", second["id"], t, None) for t in range(4)}
    clip.unlink()
    assert findings("v/clip.mp4", 4) == {once} | {("missing-frame", second["id"], t, None) for t in range(4)}


def test_a_list_that_is_there_twice_is_found(data: Copy) -> None:
    data.source.write_text('{"videos": [], ' + data.source.read_text()[1:])
    (finding,) = check_file(data.source, Settings()).findings
    assert (finding.code, "occurs twice" in finding.text) == ("json", True)


def test_ids_up_to_64_bits_are_fine(data: Copy) -> None:
    data.annotation["id"] = 2**63 - 1
    data.save()
    assert check_file(data.source, Settings()).findings == ()


def test_polygons(data: Copy) -> None:
    """Fine ones, one a little outside, and one whose outline would fill the memory."""
    set_mask([[2, 2, 20, 2, 20, 10, 2, 10]])(data)
    data.annotation["bboxes"][data.frame], data.annotation["areas"][data.frame] = [2, 2, 18, 8], 18 * 8
    data.save()
    assert check_file(data.source, Settings()).findings == ()
    set_mask([[2, -0.5, 20, 2, 20, 10, 2, 10]])(data)
    data.save()
    assert ("polygon-outside", *next(iter(data.here("")))[1:]) in found(check_file(data.source, Settings()))
    for turns in (30_000, 60):
        expected = set_mask([[0, 0, 48, 32] * turns], "polygon")(data)
        data.save()
        assert found(check_file(data.source, Settings())) == expected
        with pytest.raises(DataError, match="outline of the polygons is too long"):
            VideoDataset.load(data.root, "train.json")


def test_which_files_of_a_folder_are_annotations(data: Copy) -> None:
    (data.root / "results.json").write_text("[]")
    (data.root / "broken.json").write_text("{")
    names = [file.name for file in annotation_files(data.root)]
    assert names == ["broken.json", "stills.json", "test.json", "train.json", "valid.json"]
    assert annotation_files(data.source) == [data.source]
    assert [file.name for file in annotation_files(data.root.parent)] == names, "as YouTube-VIS 2021 has them"
    with pytest.raises(DataError, match="no JSON file here has annotations"):
        annotation_files(data.root / "JPEGImages")
    with pytest.raises(DataError, match="there is no such file or folder"):
        annotation_files(data.root / "absent")


@pytest.mark.skipif(not REAL.is_dir(), reason="real-vis-mini is not beside the repository")
def test_real_videos_are_clean() -> None:
    for source in annotation_files(REAL):
        codes = {finding.code for finding in check_file(source, Settings(deep=True)).findings}
        assert codes == {"category-unused"}, "both files list the categories of both"


def test_every_kind_of_finding_is_tested() -> None:
    """The table has no code that nothing leads to; those of files and folders have their own tests."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert [code for code in KINDS if f'"{code}"' not in text] == []


def test_thousands_of_masks_in_a_frame_are_not_compared_in_pairs(data: Copy) -> None:
    """All pairs would take 800 MB a frame."""
    first = data.annotation
    for index in range(10_000):
        mask = {"size": first["segmentations"][0]["size"], "counts": [index % 1000, 5, 32 * 48 - 5 - index % 1000]}
        extra = {"segmentations": [mask, None, None, None], "id": 1000 + index, "bboxes": None, "areas": None}
        data.tree["annotations"].append(first | extra)
    data.save()
    codes = {finding.code for finding in check_file(data.source, Settings()).findings}
    assert codes == {"identical-tracks", "video-limit"}
    with pytest.raises(DataError, match="annotations, over the limit of 10000"):
        VideoDataset.load(data.root, "train.json")


def test_more_frames_than_the_reader_takes(data: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("syncvis.data.ytvis", "syncvis.data.check.video_rules"):
        monkeypatch.setattr(f"{module}.MAX_FRAMES", 3)
    expected = {("video-limit", video["id"], None, None) for video in data.tree["videos"]}
    assert found(check_file(data.source, Settings())) == expected
    with pytest.raises(DataError, match="4 frames are not between 1 and 3"):
        VideoDataset.load(data.root, "train.json")


def test_numbers_in_names_are_in_order_without_zeros_in_front(data: Copy) -> None:
    names = data.video["file_names"]
    for t, name in enumerate(names):
        new = f"{Path(name).parent}/{8 + t}.png"
        (data.root / "JPEGImages" / name).rename(data.root / "JPEGImages" / new)
        names[t] = new
    data.save()
    assert check_file(data.source, Settings()).findings == ()
