"""Frames of video files by number: in any order those of decoding from the start, in forked processes too."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from syncvis.data.frames import FrameReader
from syncvis.data.single import open_video
from syncvis.data.video_file import VideoFile, VideoFiles, count_frames, frame_names, split_name
from syncvis.data.ytvis import Category, VideoDataset
from syncvis.errors import DataError

HEIGHT, WIDTH, LENGTH = 32, 48, 50
# Frames that refer to later ones, rare key frames, none at all, and containers that store no times.
KINDS = [("mp4", "libx264"), ("mkv", "ffv1"), ("avi", "mpeg4"), ("mp4", "mpeg4"), ("ts", "libx264"), ("webm", "libvpx")]


def _pictures(length: int = LENGTH) -> list[NDArray[np.uint8]]:
    ramp = np.linspace(0, 100, WIDTH, dtype=np.uint8)
    return [np.broadcast_to((ramp + 3 * t)[None, :, None], (HEIGHT, WIDTH, 3)).copy() for t in range(length)]


def _write(path: Path, codec: str, length: int = LENGTH) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 1
        if codec != "libvpx":
            stream.codec_context.max_b_frames = 2
        for picture in _pictures(length):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _from_the_start(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_any_order_gives_the_frames_of_the_file(tmp_path: Path, suffix: str, codec: str) -> None:
    path = _write(tmp_path / f"a.{suffix}", codec)
    expected = _from_the_start(path)
    assert count_frames(path) == len(expected) == LENGTH
    assert np.abs(expected[30].astype(int) - _pictures()[30]).mean() < 6
    file = VideoFile(path)
    assert file.size == (HEIGHT, WIDTH)
    order = [0, 1, 2, 49, 48, 0, 13, 11, 12, 12, 40, *np.random.default_rng(0).integers(0, LENGTH, 40).tolist()]
    for t in order:
        np.testing.assert_array_equal(file.read(t, HEIGHT, WIDTH), expected[t], err_msg=f"frame {t}")
    with pytest.raises(DataError, match="has 50 frames, so none with number 50"):
        file.read(50, HEIGHT, WIDTH)
    with pytest.raises(DataError, match="its frames are 32 x 48 pixels, not 48 x 32"):
        file.read(0, WIDTH, HEIGHT)
    file.close()


def test_names_of_frames() -> None:
    assert frame_names("v/a.mp4", 2) == ["v/a.mp4#0", "v/a.mp4#1"]
    assert split_name("v/a.MP4#17") == ("v/a.MP4", 17)
    for name in ("a.png", "a.png#1", "a.mp4", "a.mp4#", "a.mp4#-1", "a.mp4#x", "a.mp4#\u0661", "a.mp4#" + "9" * 50):
        assert split_name(name) == (name, None)


def _dataset(root: Path, videos: list[dict[str, Any]]) -> VideoDataset:
    common = {"height": HEIGHT, "width": WIDTH}
    entries = [common | {"id": n + 1} | video for n, video in enumerate(videos)]
    (root / "own.json").write_text(json.dumps({"videos": entries, "categories": [{"id": 1, "name": "x"}]}))
    return VideoDataset.load(root, "own.json")


def test_a_video_file_stands_for_the_frames(tmp_path: Path) -> None:
    folder = tmp_path / "JPEGImages" / "v"
    folder.mkdir(parents=True)
    expected = _from_the_start(_write(folder / "only.mp4", "libx264"))
    (folder / "notes.txt").write_text("no video")
    videos = [{"file_name": "v/only.mp4"}, {"file_name": "v"}, {"file_name": "v", "length": 7}]
    dataset = _dataset(tmp_path, [*videos, {"file_names": ["v/only.mp4#20", "v/only.mp4#4"]}])
    assert [len(video) for video in dataset.videos] == [LENGTH, LENGTH, 7, 2]
    for video, t, frame in [(0, 30, 30), (0, 3, 3), (1, 49, 49), (2, 6, 6), (3, 0, 20), (3, 1, 4)]:
        np.testing.assert_array_equal(dataset.read_frame(dataset.videos[video], t), expected[frame])


@pytest.mark.parametrize(
    ("video", "problem"),
    [
        ({"file_name": "../a.mp4"}, "leaves the folder"),
        ({"file_name": "a.mp4"}, r"a\.mp4: the frame is missing"),
        ({"file_name": "a.txt"}, "not named like a video file"),
        ({"file_name": 3}, "is a whole number, not text"),
        ({"file_name": "a\0.mp4"}, "has control characters"),
        ({"file_name": "two"}, "the folder 'two' has 2 video files, not one"),
        ({"file_name": "b.mp4", "length": 0}, "0 frames are not between"),
        ({"file_name": "b.mp4", "length": 10**9}, "1000000000 frames are not between"),
        ({"file_name": "b.mp4", "length": "5"}, "is text, not a whole number"),
    ],
)
def test_entries_that_name_no_video_file(tmp_path: Path, video: dict[str, Any], problem: str) -> None:
    (tmp_path / "JPEGImages" / "two").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "JPEGImages" / "two" / name).touch()
    with pytest.raises(DataError, match=rf"{problem}.*Fix: ") as caught:
        _dataset(tmp_path, [video])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_no_pipe_is_waited_for_and_no_link_followed_to_count_frames(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "JPEGImages"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "link.mp4").symlink_to(_write(tmp_path / "outside.mp4", "libx264"))
    for name, problem in (("pipe", "is not a file"), ("link", "leads out"), ("a" * 300, "cannot be read")):
        with pytest.raises(DataError, match=problem):
            _dataset(tmp_path / "root", [{"file_name": f"{name}.mp4"}])


def test_a_video_shorter_than_its_length_and_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    path = _write(tmp_path / "JPEGImages" / "a.mp4", "libx264")
    with pytest.raises(DataError, match=r"own\.json: videos\[0\]\.length: length is 60, but the video has 50 frames\."):
        _dataset(tmp_path, [{"file_name": "a.mp4", "length": 60}])
    dataset = _dataset(tmp_path, [{"file_names": ["a.mp4#49", "a.mp4#55"]}])
    with pytest.raises(DataError, match=r"a\.mp4: has 50 frames, so none with number 55\. Fix: correct"):
        dataset.read_frame(dataset.videos[0], 1)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"a\.mp4: cannot be read as a video"):
        _dataset(tmp_path, [{"file_name": "a.mp4", "length": 50}])
    path.unlink()
    assert len(_dataset(tmp_path, [{"file_name": "a.mp4", "length": 50}]).videos[0]) == 50, "masks are still counted"


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    rng, refused = np.random.default_rng(0), 0
    for suffix, codec in KINDS:
        whole = _write(tmp_path / f"whole.{suffix}", codec, 10).read_bytes()
        for _ in range(8):
            damaged = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(0, len(damaged), 40)
            damaged[places] = rng.integers(0, 256, 40)
            (tmp_path / f"a.{suffix}").write_bytes(damaged[: rng.integers(len(damaged))].tobytes())
            try:
                assert FrameReader(tmp_path).read(f"a.{suffix}#3", HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
            except DataError as error:
                refused += f"a.{suffix}: " in str(error) and "Fix: " in str(error) and "\n" not in str(error)
    assert refused > 20


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DataError, match="it has no pictures"):
        VideoFile(tmp_path / "a.mkv")


def test_a_playlist_is_no_video(tmp_path: Path) -> None:
    """FFmpeg would follow it to other files."""
    _write(tmp_path / "secret.ts", "libx264", 5)
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "b.mp4").write_text("ffconcat version 1.0\nfile secret.ts\n")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(DataError, match="cannot be read as a video"):
            VideoFile(tmp_path / name)


def test_few_files_are_open_and_none_in_a_copy(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{n}.mkv", "ffv1", 3) for n in range(3)]
    files = VideoFiles(most=2)
    first = files[paths[0]]
    assert files[paths[0]] is first
    assert files[paths[1]] is not files[paths[2]]
    assert files[paths[0]] is not first
    again = pickle.loads(pickle.dumps(files))
    assert again[paths[0]] is not files[paths[0]]


def _in_a_forked_process(check: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.setitimer(signal.ITIMER_REAL, 60)  # ends it should it hang
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            gc.collect()
            check()
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it has threads
def test_forked_processes_read_at_once(tmp_path: Path) -> None:
    expected = _from_the_start(_write(tmp_path / "a.mp4", "libx264"))
    reader = FrameReader(tmp_path, cache_bytes=0)

    def check(order: list[int] | range = range(LENGTH)) -> None:
        for t in order:
            assert (reader.read(f"a.mp4#{t}", HEIGHT, WIDTH) == expected[t]).all()

    check(range(10))
    children = [_in_a_forked_process(check) for _ in range(3)]
    check(range(LENGTH - 1, -1, -1))
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_a_reader_starts_no_threads(tmp_path: Path) -> None:
    file = VideoFile(_write(tmp_path / "a.mp4", "libx264"))
    threads = os.listdir("/proc/self/task")
    assert [file.read(t, HEIGHT, WIDTH).shape for t in range(5)] == [(HEIGHT, WIDTH, 3)] * 5
    assert os.listdir("/proc/self/task") == threads


def test_one_video_for_inference_is_not_held_in_memory(tmp_path: Path) -> None:
    expected = _from_the_start(_write(tmp_path / "a.mp4", "libx264"))
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    for name in ("a.mp4", "link.mp4"):
        dataset = open_video(tmp_path / name, [Category(1, "x")], LENGTH)
        video = dataset.videos[0]
        assert (len(video), video.height, video.width) == (LENGTH, HEIGHT, WIDTH)
        assert (dataset.read_frame(video, 20) == expected[20]).all()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a video \(it is named like an image\)\. Fix: give"):
        open_video(tmp_path / "a.png", [Category(1, "x")], 10)
