"""Bad input through the command line: one line on stderr that names the place, an exit code, no harm done."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import TINY

from syncvis.config import set_dotted
from syncvis.training import step
from syncvis.training.run import run

Run = Callable[..., tuple[int, str, str]]
CONFIG_ERROR, DATA_ERROR, STORAGE_ERROR, NON_FINITE, INTERRUPTED = 2, 3, 4, 6, 75


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the videos that a test may damage."""
    return Path(shutil.copytree(tiny_data, tmp_path / "videos"))


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    return _write_config(tmp_path / "config.yaml", data)


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything in it."""
    folder = tmp_path_factory.mktemp("finished")
    from syncvis.config import load_config

    path = _write_config(folder / "config.yaml", tiny_data)
    run(load_config(path, ["train.steps=1"]), folder / "run")
    return folder / "run"


def _write_config(path: Path, root: Path) -> Path:
    path.write_text(yaml.safe_dump(set_dotted(TINY, "data.root", str(root))))
    return path


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _assert_error(done: tuple[int, str, str], code: int, *parts: str) -> None:
    found, out, err = done
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert found == code, err
    assert out == ""
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["absent.yaml", "cannot be read"]),
        ("seed: 0\nsyncs: 1\n", ["absent.yaml", "syncs is not a known key (did you mean 'sync'?)"]),
        ("data: [1, 2\n", ["absent.yaml: line"]),
        ("seed: 0\nseed: 0\n", ["duplicate key 'seed'"]),
        ("", ["absent.yaml", "is not a mapping"]),
    ],
    ids=["missing", "unknown key", "broken", "duplicate", "empty"],
)
@pytest.mark.parametrize("command", ["train", "config"])
def test_bad_configs(syncvis: Run, tmp_path: Path, command: str, text: str | None, parts: list[str]) -> None:
    path = tmp_path / "absent.yaml"
    if text is not None:
        path.write_text(text)
    _assert_error(syncvis(command, path), CONFIG_ERROR, *parts)
    assert list(tmp_path.iterdir()) == ([path] if text is not None else [])


@pytest.mark.parametrize("override", ["sync.momentun=1", "sync.momentum=2", "sync.momentum", "seed=[1"])
def test_bad_overrides(syncvis: Run, config: Path, override: str) -> None:
    _assert_error(syncvis("train", config, override), CONFIG_ERROR, override.split("=")[0])


Damage = Callable[[Path], None]


def _annotations(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(root: Path) -> None:
        path = root / "train.json"
        tree = json.loads(path.read_text())
        change(tree)
        path.write_text(json.dumps(tree))

    return damage


def _frames(change: Callable[[Path], object]) -> Damage:
    def damage(root: Path) -> None:
        for path in sorted((root / "JPEGImages").rglob("*.png")):
            change(path)

    return damage


def _first_mask(tree: dict[str, Any]) -> dict[str, Any]:
    return next(mask for mask in tree["annotations"][0]["segmentations"] if mask)


def _without_frames(tree: dict[str, Any]) -> None:
    tree["videos"][0].update(file_names=[], length=0)


DAMAGE: dict[str, tuple[Damage, list[str]]] = {
    "no folder": (shutil.rmtree, ["videos: data.root: there is no such folder"]),
    "no JSON": (lambda root: (root / "train.json").unlink(), ["videos/train.json"]),
    "broken JSON": (lambda root: (root / "train.json").write_text('{"videos": ['), ["train.json", "not valid JSON"]),
    "no validation": (lambda root: (root / "valid.json").unlink(), ["videos/valid.json"]),
    "no frames folder": (lambda root: shutil.rmtree(root / "JPEGImages"), ["JPEGImages"]),
    "frames missing": (_frames(Path.unlink), ["train.json", "videos 1, 2: all 4 frames missing"]),
    "frame cut off": (_frames(lambda p: p.write_bytes(p.read_bytes()[:300])), [".png", "damaged"]),
    "frame empty": (_frames(lambda p: p.write_bytes(b"")), [".png", "not an image"]),
    "mask size": (
        _annotations(lambda t: _first_mask(t).update(size=[99, 99])),
        ["train.json", "segmentations", "size"],
    ),
    "mask counts": (
        _annotations(lambda t: [m.update(counts="1") for a in t["annotations"] for m in a["segmentations"] if m]),
        ["train.json", "damaged mask"],
    ),
    "unknown category": (
        _annotations(lambda t: t["annotations"][0].update(category_id=99)),
        ["annotations[0].category_id"],
    ),
    "unknown video": (_annotations(lambda t: t["annotations"][0].update(video_id=99)), ["annotations[0].video_id"]),
    "empty video": (_annotations(_without_frames), ["videos[0].file_names", "no frames"]),
    "no videos": (_annotations(lambda t: t.update(videos=[], annotations=[])), ["there are no videos"]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_bad_data(syncvis: Run, config: Path, data: Path, kind: str) -> None:
    damage, parts = DAMAGE[kind]
    damage(data)
    _assert_error(syncvis("train", config, "--out", "run"), DATA_ERROR, *parts)
    assert not Path("run/result.json").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_bad_data_in_a_loader_process(syncvis: Run, config: Path, data: Path) -> None:
    DAMAGE["frame cut off"][0](data)  # its header is whole, so only the loader finds it
    _assert_error(syncvis("train", config, "--out", "run", "--loader-workers", 1), DATA_ERROR, ".png", "damaged")


def test_training_without_instances(syncvis: Run, config: Path, data: Path) -> None:
    """Refused before the folder of the run holds anything, so that the mended data can go there."""
    whole = (data / "train.json").read_text()
    tree = json.loads((data / "train.json").read_text())
    (data / "train.json").write_text(json.dumps(tree | {"annotations": []}))
    done = syncvis("train", config, "train.steps=1", "--out", "run")
    _assert_error(done, DATA_ERROR, "train.json: annotations: ", " 0 annotations; nothing to train on")
    assert _files(Path("run")) == {}
    (data / "train.json").write_text(whole)
    code, out, err = syncvis("train", config, "train.steps=2", "--out", "run")
    assert (code, err) == (0, "")
    assert out.count("\n") == 2


def test_a_folder_of_another_run(syncvis: Run, config: Path, finished: Path) -> None:
    before = _files(finished)
    done = syncvis("train", config, "seed=9", "--out", finished)
    _assert_error(done, STORAGE_ERROR, str(finished), "choose another --out")
    assert _files(finished) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_stopped_run_and_its_damaged_checkpoint(
    syncvis: Run, config: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(step, "seed_step", lambda *_: signal.raise_signal(number))
    done = syncvis("train", config, "--out", "run")
    _assert_error(done, INTERRUPTED, "run", "stopped after step 1", "run the same command to continue")
    checkpoint = Path("run/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    before = _files(Path("run"))
    _assert_error(syncvis("train", config, "--out", "run"), STORAGE_ERROR, "run/checkpoint.pt")
    assert _files(Path("run")) == before


def test_a_run_that_diverges(syncvis: Run, config: Path) -> None:
    _assert_error(syncvis("train", config, "train.lr=1e30", "--out", "run"), NON_FINITE, "at step")


@pytest.mark.parametrize("content", [None, b"", b"half"], ids=["missing", "empty", "half"])
def test_bad_weights(syncvis: Run, config: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "init.safetensors"
    if content is not None:
        path.write_bytes(content)
    _assert_error(syncvis("train", config, f"train.init={path}"), STORAGE_ERROR, "init.safetensors")


@pytest.mark.parametrize("command", [["eval"], ["infer", "frames"]], ids=lambda words: words[0])
def test_no_run_there(syncvis: Run, command: list[str]) -> None:
    _assert_error(syncvis(command[0], "nowhere", *command[1:]), CONFIG_ERROR, "nowhere/config.yaml")


def test_evaluating_what_is_not_there(syncvis: Run, finished: Path, tmp_path: Path) -> None:
    before = _files(finished)
    _assert_error(syncvis("eval", finished, "--split", "gone.json"), DATA_ERROR, "gone.json")
    _assert_error(syncvis("eval", finished, "--root", tmp_path / "gone"), DATA_ERROR, "gone/valid.json")
    assert _files(finished) == before


def test_evaluating_other_categories(syncvis: Run, finished: Path, data: Path) -> None:
    path = data / "valid.json"
    tree = json.loads(path.read_text())
    tree["categories"][0]["name"] = "unheard of"
    path.write_text(json.dumps(tree))
    _assert_error(syncvis("eval", finished, "--root", data), DATA_ERROR, "valid.json: categories")


def test_weights_that_do_not_fit_the_run(syncvis: Run, finished: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(finished, tmp_path / "copy"))
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("frame_queries: 5", "frame_queries: 6"))
    _assert_error(syncvis("eval", other), STORAGE_ERROR, "model.safetensors", "frame")


@pytest.mark.parametrize("kind", ["missing", "empty folder", "text"])
def test_inference_on_what_is_no_video(syncvis: Run, finished: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "empty folder":
        source.mkdir()
    elif kind == "text":
        source.write_text("no video")
    _assert_error(syncvis("infer", finished, source, "--out", "found"), DATA_ERROR, "source")
    assert not Path("found").exists()


def test_synthetic_data(syncvis: Run, tmp_path: Path) -> None:
    _assert_error(syncvis("data", "synth", "new", "frames=0", "high=3"), CONFIG_ERROR, "frames", "high")
    assert not (tmp_path / "new").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    _assert_error(syncvis("data", "synth", "full"), DATA_ERROR, "full")
    assert _files(tmp_path) == {tmp_path / "full" / "thesis.txt": b"precious"}


def test_looking_at_data_that_is_not_there(syncvis: Run) -> None:
    _assert_error(syncvis("data", "view", "gone"), DATA_ERROR, "gone/train.json")


def test_the_real_command(tmp_path: Path) -> None:
    """With all its sub-commands, in a process of its own."""
    words = [sys.executable, "-c", "from syncvis.cli import main; main()", "train", "gone.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    _assert_error((done.returncode, done.stdout, done.stderr), CONFIG_ERROR, "gone.yaml")
    assert not list(tmp_path.iterdir())
