"""What is said of video files that can be read: cut ones, those with other pictures; whole ones are not called cut."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from clips import HEIGHT, WIDTH, cut, picture, write_clip

from syncvis.data.check.checking import Settings, check_file
from syncvis.data.check.findings import Finding, Severity
from syncvis.data.check.mending import fix_file
from syncvis.data.single import open_video
from syncvis.data.stats import count
from syncvis.data.video_file import VideoFile
from syncvis.data.video_remarks import moving
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError

FRONT = {"movflags": "faststart"}
KINDS = [
    ("a.mp4", "mpeg4", FRONT),
    ("a.mov", "mpeg4", FRONT),
    ("fragments.mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
    ("a.mkv", "ffv1", {}),
    ("a.webm", "libvpx", {}),
    ("a.avi", "mpeg4", {}),
    ("a.flv", "flv", {}),
]
SILENT = [("a.ts", "mpeg2video", {}), ("a.mpg", "mpeg2video", {}), ("a.wmv", "wmv2", {})]
"""Containers whose length only reading to the end tells."""


def _said(path: Path) -> list[str]:
    said: list[str] = []
    open_video(path, [Category(1, "x")], 1000, said.append)
    return said


@pytest.mark.parametrize(("name", "codec", "options"), KINDS + SILENT)
def test_whole_files_are_not_called_cut(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    for length in (60,) if name == "a.ts" else (1, 3, 60):
        assert _said(write_clip(tmp_path / name, length, codec, options=options)) == []


@pytest.mark.parametrize(("name", "codec", "options"), KINDS)
def test_cut_files_are_named(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = cut(write_clip(tmp_path / name, 120, codec, options=options), 0.7)
    there = len(VideoFile(path))
    assert 20 < there < 110
    (line,) = _said(path)
    assert line.startswith(f"warning: {path}: is cut: ")
    assert line.endswith(f"{there} frames. Fix: copy the video again")
    if name in ("a.mp4", "a.mkv", "a.avi"):
        assert f"promises 4.80 s, about 120 frames, but it ends after {there / 25:.2f} s" in line


def test_length_of_the_whole_file_counts_where_the_track_has_none(tmp_path: Path) -> None:
    """As some programs write mkv: the tag of the track is missing, and sound may go on for longer."""
    for sound, is_cut in ((0, False), (6, False), (0, True), (6, True)):
        path = write_clip(tmp_path / "a.mkv", 100, "ffv1", sound=sound)
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"SOMETHNG"))
        assert len(_said(cut(path, 0.3) if is_cut else path)) == is_cut, (sound, is_cut)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mov", "mpeg4"), ("a.avi", "mpeg4")])
def test_longer_sound_is_no_cut(tmp_path: Path, name: str, codec: str) -> None:
    path = write_clip(tmp_path / name, 50, codec, sound=5)
    with av.open(str(path)) as container:
        assert container.duration > 4.5e6 or name == "a.avi"
    assert _said(path) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_uneven_times_are_no_cut(tmp_path: Path, name: str) -> None:
    for times in ([0, 1, 2, 50, 51, 120], [0, 1, 30, 60, 61, 62], [500, 501, 502, 503]):
        path = write_clip(tmp_path / name, len(times), "mpeg4", times=times)
        assert len(VideoFile(path)) == len(times)
        assert _said(path) == []


def test_an_edit_list_that_leaves_out_the_end_is_no_cut(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 100)
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12
    length, start = struct.unpack_from(">Ii", content, place)
    struct.pack_into(">Ii", content, place, length // 2, start)
    path.write_bytes(content)
    assert len(VideoFile(path)) == 50
    assert _said(path) == []


def _dataset(root: Path, name: str, length: int | None, masks: list[int], seen: int = 1) -> Path:
    """One video, and annotations with so many masks each."""
    video = {"id": 1, "height": HEIGHT, "width": WIDTH, "file_name": name} | ({"length": length} if length else {})
    mask = {"size": [HEIGHT, WIDTH], "counts": [seen, 4, HEIGHT * WIDTH - 4 - seen]}
    track = {"video_id": 1, "category_id": 1, "iscrowd": 0}
    tracks = [track | {"id": n, "segmentations": [mask] + [None] * (many - 1)} for n, many in enumerate(masks)]
    tree = {"videos": [video], "categories": [{"id": 1, "name": "x"}], "annotations": tracks}
    (root / "own.json").write_text(json.dumps(tree))
    return root / "own.json"


def _findings(source: Path) -> list[Finding]:
    return list(check_file(source, Settings()).findings)


def test_a_check_warns_of_a_cut_video(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    path = cut(write_clip(tmp_path / "JPEGImages" / "a.mkv", 90, "ffv1"))
    (found,) = _findings(_dataset(tmp_path, "a.mkv", None, [len(VideoFile(path))]))
    assert (found.code, found.severity, found.key) == ("video-cut", Severity.WARNING, "videos[0].file_name")
    assert "promises 3.60 s, about 90 frames" in found.text
    assert found.mend is None


def test_a_length_beyond_the_video_is_one_error_everywhere(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    write_clip(tmp_path / "JPEGImages" / "a.mp4", 40)
    for masks in ([], [40], [60], [40, 60]):
        source = _dataset(tmp_path, "a.mp4", 60, masks)
        found = [one for one in _findings(source) if one.code not in ("no-annotations", "overlap")]
        assert [(one.code, one.key) for one in found] == [("video-length", "videos[0].length")]
        assert found[0].text == "length is 60, but the video has 40 frames"
        how = found[0].mend and found[0].mend.how
        assert how == (None if 60 in masks else "set length to 40"), "no mask is lost"
        with pytest.raises(
            DataError, match=r"own\.json: videos\[0\]\.length: length is 60, but the video has 40 frames"
        ):
            VideoDataset.load(tmp_path, "own.json")
    codes = {one.code for one in _findings(_dataset(tmp_path, "a.mp4", 60, [50]))}
    assert codes == {"video-length", "mask-count"}


def test_fix_corrects_the_length(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    write_clip(tmp_path / "JPEGImages" / "a.mp4", 40)
    fixed = fix_file(_dataset(tmp_path, "a.mp4", 60, [40]), tmp_path / "fixed.json", Settings())
    assert [one.code for one in fixed.mended] == ["video-length"]
    assert fixed.remains.findings == ()
    counted = count(VideoDataset.load(tmp_path, "fixed.json"))
    assert (counted.lengths, len(counted.durations)) == ((40,), 1)


def test_a_length_below_that_of_the_video_is_noted(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    write_clip(tmp_path / "JPEGImages" / "a.mp4", 40)
    (found,) = _findings(_dataset(tmp_path, "a.mp4", 30, [30]))
    assert (found.code, found.severity) == ("video-part", Severity.NOTE)
    assert found.text == "length is 30, the video has 40 frames: the rest is not read"
    assert len(VideoDataset.load(tmp_path, "own.json").videos[0]) == 30


def test_a_missing_video_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (found,) = _findings(_dataset(tmp_path, "a.mp4", 30, [30]))
    assert (found.code, "there is no file" in found.text) == ("video-file", True)


def _write_two_tracks(path: Path, is_cover: bool) -> Path:
    with av.open(str(path), "w") as container:
        small = container.add_stream("mjpeg" if is_cover else "mpeg4", rate=25)
        small.width, small.height, small.pix_fmt = 16, 16, "yuvj420p" if is_cover else "yuv420p"
        if is_cover:
            small.disposition = Disposition.attached_pic
        large = container.add_stream("mpeg4", rate=25)
        large.width, large.height, large.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for t in range(4):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(t)[:16, :16]), format="rgb24")
            container.mux(small.encode(frame) if t == 0 or not is_cover else [])
            container.mux(large.encode(av.VideoFrame.from_ndarray(picture(t), format="rgb24")))
        for stream in (small, large):
            container.mux(stream.encode())
    return path


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    path = _write_two_tracks(tmp_path / "a.mp4", is_cover=True)
    file = VideoFile(path)
    assert (len(file), file.size) == (4, (HEIGHT, WIDTH))
    assert _said(path) == [f"note: {path}: has a cover picture, which is not read"]
    cover, track = SimpleNamespace(disposition=Disposition.attached_pic), SimpleNamespace(disposition=Disposition(0))
    container: Any = SimpleNamespace(streams=SimpleNamespace(video=[cover, track]))
    assert moving(container) == [track], "also where the cover comes first"


def test_of_several_tracks_the_first_is_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    path = _write_two_tracks(tmp_path / "JPEGImages" / "a.mp4", is_cover=False)
    file = VideoFile(path)
    assert (len(file), file.size) == (4, (16, 16))
    text = f"has 2 video tracks (16 x 16, {HEIGHT} x {WIDTH}), of which the first is read"
    assert _said(path) == [f"note: {path}: {text}"]
    found = {one.code: one for one in _findings(_dataset(tmp_path, "a.mp4", None, [4]))}["video-tracks"]
    assert (found.severity, found.text.endswith(text)) == (Severity.NOTE, True)
