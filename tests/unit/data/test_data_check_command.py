from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from damage import DAMAGES, Copy, clean_copy
from typer.testing import CliRunner

from syncvis.cli import app
from syncvis.data.ytvis import VideoDataset
from syncvis.errors import ConfigError, DataError, StorageError


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Copy:
    return clean_copy(tiny_data, tmp_path / "copy")


def _check(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


@pytest.mark.parametrize(
    ("kinds", "code", "last"),
    [
        ([], 0, "nothing wrong: 0 errors, 0 warnings, 0 notes"),
        (["category unused"], 0, "nothing wrong: 0 errors, 0 warnings, 1 note"),
        (["category unused", "box moved"], 1, "0 errors, 1 warning, 1 note; --fix mends 1"),
        (["box moved", "RLE cut off", "frame missing"], 3, "2 errors, 0 warnings, 0 notes"),
    ],
)
def test_exit_codes(data: Copy, kinds: list[str], code: int, last: str) -> None:
    for kind in kinds:
        DAMAGES[kind](data)
    data.save()
    done = _check(data.source)
    assert done.exit_code == code
    assert done.stdout.splitlines()[-1].strip() == last
    assert "Traceback" not in done.output


def test_what_a_person_reads(data: Copy) -> None:
    DAMAGES["box moved"](data)
    data.save()
    lines = _check(data.source).stdout.splitlines()
    assert lines[0].startswith(f"{data.source}: 4 videos, 16 frames, ")
    assert lines[1] == "  warning box-differs: a box differs from its mask: 1"
    place = f"    video {data.video['id']}, frame 1, annotation {data.annotation['id']} (annotations[{data.place}]"
    assert lines[2].startswith(f"{place}.bboxes[1]): the box is [")
    assert "[--fix: set bboxes[1] to [" in lines[2]


def test_long_lists_are_cut_unless_asked_for(data: Copy) -> None:
    for video in data.tree["videos"]:
        for name in video["file_names"]:
            (data.root / "JPEGImages" / name).write_text("no picture")
    data.save()
    short, full = _check(data.source).stdout, _check(data.source, "--all").stdout
    assert short.count("not an image") == 5
    assert "... and 11 more (--all)" in short
    assert full.count("not an image") == 16
    assert "more (--all)" not in full


def test_missing_frames_are_told_by_video_unless_all_are_asked_for(data: Copy) -> None:
    first, second, third, fourth = data.tree["videos"]
    for video in (first, second):
        video["file_names"] = [f"gone/{name}" for name in video["file_names"]]
    third["file_names"][2] = "gone/2.png"
    fourth["file_names"][0] = f"JPEGImages/{fourth['file_names'][0]}"
    data.save()
    short, full = _check(data.source).stdout, _check(data.source, "--all").stdout
    assert [line.strip() for line in short.splitlines()[1:5]] == [
        "error missing-frame: a frame is not on the disk: 10",
        f"videos {first['id']}, {second['id']}: all 4 frames missing",
        f"video {third['id']}: 1 (gone/2.png)",
        next(line.strip() for line in full.splitlines() if "--fix" in line),
    ]
    assert full.count("there is no file") == 10
    found = json.loads(_check(data.source, "--json").stdout)["files"][0]["findings"]
    assert len([finding for finding in found if finding["code"] == "missing-frame"]) == 10


def test_frames_are_found_where_the_training_finds_them(data: Copy) -> None:
    """The root of the data set may be the folder above, with the frames under another name of the split."""
    data.save()
    for folder in ("val", "valid"):
        (data.root / folder).mkdir()
    (data.root / "JPEGImages").rename(data.root / "val" / "JPEGImages")
    (data.root / "train.json").rename(data.root / "valid" / "instances.json")
    for path in (data.root / "valid" / "instances.json", data.root / "valid"):
        done = _check(path)
        assert (done.exit_code, "nothing wrong" in done.stdout) == (0, True), done.stdout
    assert VideoDataset.load(data.root, "valid/instances.json").root == data.root / "val" / "JPEGImages"


def test_what_a_program_reads(data: Copy) -> None:
    DAMAGES["box moved"](data)
    data.save()
    done = _check(data.source, "--json")
    tree = json.loads(done.stdout)
    assert tree["exit_code"] == done.exit_code == 1
    (report,) = tree["files"]
    (finding,) = report["findings"]
    assert report["counts"] == {"box-differs": 1}
    assert [finding[name] for name in ("severity", "code", "video", "frame", "annotation")] == [
        "warning", "box-differs", data.video["id"], 1, data.annotation["id"],
    ]  # fmt: skip


def test_fix_reports_what_was_mended_and_what_remains(data: Copy) -> None:
    DAMAGES["box moved"](data)
    DAMAGES["frame missing"](data)
    data.save()
    out = data.root / "fixed.json"
    done = _check(data.source, "--fix", out)
    mended, remains = done.stdout.split("REMAINS\n")
    assert "box-differs" in mended
    assert "missing-frame" not in mended
    assert "missing-frame" in remains
    assert "box-differs" not in remains
    assert done.exit_code == 3
    assert _check(out).stdout == remains
    named = json.loads(_check(data.source, "--json", "--fix", data.root / "again.json").stdout)
    assert named["mended"]["counts"] == {"box-differs": 1}
    assert named["remains"]["counts"] == {"missing-frame": 1}


def test_a_folder_is_checked_file_by_file(data: Copy) -> None:
    (data.root / "broken.json").write_text("{")
    done = _check(data.root, "--json")
    assert [Path(report["file"]).name for report in json.loads(done.stdout)["files"]] == [
        "broken.json", "stills.json", "test.json", "train.json", "valid.json",
    ]  # fmt: skip
    assert done.exit_code == 3


def test_any_text_can_be_printed(data: Copy) -> None:
    r"""Lone surrogates and control characters come out escaped."""
    data.video["file_names"][0] = "\ud800\x1b[31m.png"
    data.save()
    done = _check(data.source)
    assert done.exit_code == 3
    assert r"\ud800\u001b[31m.png" in done.stdout
    steering = data.source.rename(data.root / "a\x1b[31m.json")
    assert r"a\x1b[31m.json: 4 videos" in _check(steering).stdout


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["absent"], DataError),
        (["copy", "--fix", "new.json"], ConfigError),
        (["copy/train.json", "--frames", "absent"], DataError),
        (["copy/train.json", "--fix", "copy/valid.json"], StorageError),
    ],
    ids=["no such path", "several files to fix", "no such frames", "existing file"],
)
def test_bad_command_lines(data: Copy, monkeypatch: pytest.MonkeyPatch, words: list[str], kind: type) -> None:
    monkeypatch.chdir(data.root.parent)
    assert isinstance(_check(*words).exception, kind)
