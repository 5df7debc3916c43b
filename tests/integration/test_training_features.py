"""Runs with a frozen encoder: the feature cache changes no bit of weights, rows and metrics, whatever becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import logged_rows, tiny_config

from syncvis.config import RunConfig
from syncvis.errors import Interrupted
from syncvis.execution import Execution
from syncvis.training.run import Runtime, run


@pytest.fixture(scope="module")
def config(tiny_data: Path) -> RunConfig:
    changes = {"train.trained": ["decoder"], "train.eval_every": 3, "eval.topk": 4}
    return tiny_config(changes, tiny_data)


@pytest.fixture(scope="module")
def plain(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without a cache."""
    out = tmp_path_factory.mktemp("plain") / "run"
    run(config, out)
    return out


@pytest.fixture(scope="module")
def warm(config: RunConfig, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that a run has filled; the run is the same as without."""
    folder = tmp_path_factory.mktemp("warm")
    run(config, folder / "run", cached(folder / "cache"))
    assert_same(folder / "run", plain)
    return folder / "cache"


def cached(folder: Path, gib: float = 1.0) -> Runtime:
    return Runtime(feature_cache=str(folder), feature_cache_gib=gib)


def counts(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "result.json").read_text())["features"]
    return found


def entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.features"))


def assert_same(out: Path, wanted: Path) -> None:
    assert (out / "model.safetensors").read_bytes() == (wanted / "model.safetensors").read_bytes()
    assert logged_rows(out) == logged_rows(wanted)
    found, right = (json.loads((folder / "result.json").read_text()) for folder in (out, wanted))
    for name in ("metrics", "history", "per_video", "tracking"):
        assert found[name] == right[name]


def stop_after(steps: int) -> Callable[[], bool]:
    calls: list[int] = []
    return lambda: calls.append(1) or len(calls) >= steps  # type: ignore[func-returns-value]


def test_without_a_cache_nothing_is_counted(plain: Path) -> None:
    assert counts(plain) == {}


def test_a_warm_cache_computes_nothing(config: RunConfig, plain: Path, warm: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in entries(warm)}
    assert before
    run(config, tmp_path / "run", cached(warm))
    assert_same(tmp_path / "run", plain)
    found = counts(tmp_path / "run")
    assert (found["misses"], found["damaged"], found["refused"], found["bytes_written"]) == (0, 0, 0, 0)
    assert found["hits"] > 0
    assert found["bytes_read"] > 0
    assert {path: path.stat().st_mtime_ns for path in entries(warm)} == before


def test_another_trial_of_a_study_reads_what_the_first_wrote(config: RunConfig, warm: Path, tmp_path: Path) -> None:
    changed = config.model_copy(update={"train": config.train.model_copy(update={"lr": 0.01})})
    run(changed, tmp_path / "run", cached(warm))
    assert counts(tmp_path / "run")["misses"] == 0


@pytest.mark.parametrize("damage", [b"", b"no features", "cut", "flipped", "swapped"], ids=str)
def test_damaged_entries_are_computed_again(
    config: RunConfig, plain: Path, warm: Path, tmp_path: Path, damage: bytes | str
) -> None:
    files = entries(warm)
    whole = [path.read_bytes() for path in files]
    for path, content, other in zip(files, whole, whole[1:] + whole[:1], strict=True):
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:-1], "flipped": flipped, "swapped": other}.get(str(damage), b"") or damage)  # type: ignore[arg-type]
    run(config, tmp_path / "run", cached(warm))
    assert_same(tmp_path / "run", plain)
    assert counts(tmp_path / "run")["damaged"] == len(files)
    assert [path.read_bytes() for path in files] == whole


def test_two_processes_at_once(config: RunConfig, plain: Path, tmp_path: Path) -> None:
    source, cache = tmp_path / "config.yaml", tmp_path / "cache"
    source.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    words = [sys.executable, "-m", "syncvis", "train", str(source), *cached(cache).words()]
    outs = [tmp_path / name for name in "ab"]
    both = [subprocess.Popen([*words, "--out", str(out)], stdout=subprocess.PIPE, text=True) for out in outs]
    said = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    for out, text in zip(outs, said, strict=True):
        assert_same(out, plain)
        found = counts(out)
        assert f"features: {found['hits']} frames read" in text
    assert not [path for path in cache.rglob("*") if path.is_file() and path not in entries(cache)]


def test_a_run_is_continued_with_a_cache_and_without(config: RunConfig, plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for steps, runtime in ((2, cached(tmp_path / "cache")), (2, Runtime())):
        stopped = Runtime(**runtime.settings(), should_stop=stop_after(steps))
        with pytest.raises(Interrupted):
            run(config, out, stopped)
    run(config, out, cached(tmp_path / "cache"))
    assert_same(out, plain)


def test_a_bound_that_is_reached(
    config: RunConfig, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = 200_000
    run(config, tmp_path / "run", cached(tmp_path / "cache", size / 2**30))
    assert_same(tmp_path / "run", plain)
    assert 0 < sum(path.stat().st_size for path in entries(tmp_path / "cache")) <= size
    assert counts(tmp_path / "run")["refused"] > 0
    assert [r.message for r in caplog.records if "takes no more frames" in r.message]


def test_loader_processes_name_the_frames(config: RunConfig, warm: Path, plain: Path, tmp_path: Path) -> None:
    run(config, tmp_path / "run", Runtime(**cached(warm).settings() | {"loader_workers": 1}))
    assert_same(tmp_path / "run", plain)
    assert counts(tmp_path / "run")["misses"] == 0


@pytest.mark.parametrize("change", [{"data.photometric": {}}, {"data.crop": {}}, {"data.short_side": [32, 40, 48, 56]}])
def test_frames_that_never_come_again_fill_no_disk(tiny_data: Path, tmp_path: Path, change: dict[str, object]) -> None:
    """Only the evaluation, whose frames do, is kept."""
    changed = tiny_config({"train.trained": ["decoder"], "train.steps": 1, **change}, tiny_data)
    for name in ("first", "second"):
        run(changed, tmp_path / name, cached(tmp_path / "cache"))
    first, second = counts(tmp_path / "first"), counts(tmp_path / "second")
    assert first["misses"] == second["hits"] == len(entries(tmp_path / "cache"))
    assert second["misses"] == 0


def test_other_weights_have_entries_of_their_own(config: RunConfig, warm: Path, tmp_path: Path) -> None:
    """Another seed starts from other weights: what is there is of no use."""
    other = config.model_copy(update={"seed": 1})
    run(other, tmp_path / "run", cached(warm))
    run(other, tmp_path / "fresh", cached(tmp_path / "cache"))
    assert counts(tmp_path / "run") == counts(tmp_path / "fresh")


def test_an_encoder_that_learns_has_no_cache(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tiny_config({"train.steps": 1}, tiny_data), tmp_path / "run", cached(tmp_path / "cache"))
    assert counts(tmp_path / "run") == {}
    assert entries(tmp_path / "cache") == []
    assert "the encoder of this run learns" in caplog.text


def test_low_precision_has_entries_of_its_own(config: RunConfig, warm: Path, tmp_path: Path) -> None:
    """A frame under autocast has other features; those of the evaluation are in float32."""
    lower = config.model_copy(update={"train": config.train.model_copy(update={"precision": "bf16"})})
    before = len(entries(warm))
    for name in ("first", "second", "plain"):
        run(lower, tmp_path / name, Runtime() if name == "plain" else cached(warm))
    assert_same(tmp_path / "first", tmp_path / "plain")
    assert_same(tmp_path / "second", tmp_path / "plain")
    assert len(entries(warm)) > before
    assert counts(tmp_path / "second")["misses"] == 0


def test_the_folder_is_in_no_record() -> None:
    execution = Execution(feature_cache="somewhere", feature_cache_gib=3.0)
    assert not [name for name in execution.to_json() if "feature" in name]
    assert Execution(**execution.settings()) == execution
