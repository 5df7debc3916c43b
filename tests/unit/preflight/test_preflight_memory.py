"""A look is remembered as long as neither the JSON file nor a file of frames changes, and never stands in the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config
from PIL import Image

from syncvis.preflight import Look, look, look_at_runs
from syncvis.preflight import memory as module
from syncvis.preflight.frames import Frames

LookAt = Callable[..., Look]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ids of the videos whose frames were looked at."""
    ids: list[int] = []
    add = Frames.add
    monkeypatch.setattr(Frames, "add", lambda self, video: ids.append(video.id) or add(self, video))
    return ids


def _first_frame(root: Path) -> Path:
    return root / "JPEGImages" / json.loads((root / "train.json").read_text())["videos"][0]["file_names"][0]


def test_the_second_look_opens_no_frame_and_parses_no_json(
    look_at: LookAt, looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look_at()
    assert len(looked_at) == 4 + 2
    monkeypatch.setattr("syncvis.data.ytvis.VideoDataset.load", lambda *_: pytest.fail("the JSON file was read again"))
    second = look_at()
    assert len(looked_at) == 4 + 2
    assert (second.problems, second.notes, second.categories) == ((), (), first.categories)


def _delete(frame: Path) -> None:
    frame.unlink()


def _shrink(frame: Path) -> None:
    Image.new("RGB", (5, 5)).save(frame)


def _damage(frame: Path) -> None:
    """The same number of bytes."""
    frame.write_bytes(b"x" * frame.stat().st_size)


@pytest.mark.parametrize("harm", [_delete, _shrink, _damage])
def test_a_frame_that_has_changed_is_found(look_at: LookAt, root: Path, harm: Callable[[Path], None]) -> None:
    assert look_at().problems == ()
    frame = _first_frame(root)
    kept, times = frame.read_bytes(), frame.stat()
    harm(frame)
    for _ in range(2):
        assert len(look_at().problems) == 1, "what is wrong is not remembered as right"
    frame.write_bytes(kept)
    os.utime(frame, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert look_at().problems == ()


def test_another_choice_of_videos_is_another_look(look_at: LookAt, root: Path, looked_at: list[int]) -> None:
    look_at()
    looked_at.clear()
    look_at(data__videos=[1])
    assert looked_at == [1, 1]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"frames": 3, "first": [], "folders": 1}'])
def test_a_damaged_memory_is_looked_past(look_at: LookAt, memory: Path, looked_at: list[int], content: bytes) -> None:
    look_at()
    for file in memory.iterdir():
        file.write_bytes(content)
    assert look_at().problems == ()
    assert len(looked_at) == 2 * 6


@pytest.mark.parametrize("place", ["file", "", "relative"])
def test_without_a_place_to_write_to_everything_is_looked_at_again(
    look_at: LookAt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: list[int], place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place) if place == "file" else place)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    for _ in range(2):
        assert look_at().problems == ()
    assert len(looked_at) == 2 * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_memory_is_bounded(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    for number in range(5):
        module.remember([str(number)], {"number": number})
        os.utime(module._path([str(number)]) or "", (number, number))
    module.remember(["large"], {"text": "x" * 100})
    assert len(list(memory.iterdir())) == 3
    assert [module.recall([str(number)]) for number in range(5)] == [None, None, *({"number": n} for n in (2, 3, 4))]


def test_a_listing_follows_links_and_says_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a").write_text("a")
    (tmp_path / "near").symlink_to("far")
    (tmp_path / "far" / "b").symlink_to("a")
    (tmp_path / "far" / "c").symlink_to("nowhere")
    before = module.listing(tmp_path, ["near", "gone"])
    assert before == module.listing(tmp_path, ["gone", "near"])
    (tmp_path / "far" / "a").write_text("ab")
    assert module.listing(tmp_path, ["near", "gone"]) != before


def test_runs_on_the_same_data_share_one_look(
    root: Path, looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative: nothing is remembered")
    changes: list[dict[str, Any]] = [{"sync.momentum": 0.1}, {"sync.momentum": 0.2}, {"data.frames": 2}]
    assert look_at_runs([tiny_config(change, root) for change in changes]).problems == ()
    assert len(looked_at) == 6
    broken = [tiny_config({"train.init": str(root / "none")}, root), tiny_config({}, root)]
    assert len(look_at_runs(broken).problems) == 1


def test_the_watch_sees_every_video_of_a_first_look(root: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    def watch(videos: Any, total: int, source: Path) -> Any:
        for video in videos:
            seen.append((video.id, total, source.name))
            yield video

    look(tiny_config({}, root), watch)
    assert [entry[1:] for entry in seen] == [(4, "train.json")] * 4 + [(2, "valid.json")] * 2
