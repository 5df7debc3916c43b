from __future__ import annotations

import os
from pathlib import Path

import pytest
from damage import DAMAGES, Copy, Damage, clean_copy, found, set_mask
from helpers import REAL

from syncvis.data.check.checking import Settings, annotation_files, check_file
from syncvis.data.check.findings import KINDS, Severity, exit_code
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
        (b"", "not JSON"),
        (b'{"videos": [', "line 1, column 13"),
        (b"[1, 2]", "the file is [1, 2], not an object"),
        (b"\xff\xfe\x00", "not JSON text"),
        (b"[" * 100_000, "not JSON text"),
        (b'{"videos": ' + b"9" * 5000 + b"}", "not JSON text"),
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
    frames = (data.root / "JPEGImages").rename(tmp_path / "elsewhere")
    assert found(check_file(data.source, Settings())) == {("frames-folder", None, None, None)}
    assert check_file(data.source, Settings(frames=frames)).findings == ()
    with pytest.raises(DataError, match="there is no such folder"):
        check_file(data.source, Settings(frames=tmp_path / "absent"))


def test_polygons(data: Copy) -> None:
    """Fine ones, one a little outside, and one whose outline would fill the memory."""
    set_mask([[2, 2, 20, 2, 20, 10, 2, 10]])(data)
    data.annotation["bboxes"][data.frame], data.annotation["areas"][data.frame] = [2, 2, 18, 8], 18 * 8
    data.save()
    assert check_file(data.source, Settings()).findings == ()
    set_mask([[2, -0.5, 20, 2, 20, 10, 2, 10]])(data)
    data.save()
    assert ("polygon-outside", *next(iter(data.here("")))[1:]) in found(check_file(data.source, Settings()))
    expected = set_mask([[0, 0, 48, 32] * 30_000], "polygon")(data)
    data.save()
    assert found(check_file(data.source, Settings())) == expected


def test_which_files_of_a_folder_are_annotations(data: Copy) -> None:
    (data.root / "results.json").write_text("[]")
    (data.root / "broken.json").write_text("{")
    names = [file.name for file in annotation_files(data.root)]
    assert names == ["broken.json", "stills.json", "test.json", "train.json", "valid.json"]
    assert annotation_files(data.source) == [data.source]
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
    assert codes == {"identical-tracks"}
