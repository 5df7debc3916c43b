"""What a run does with its folder: who is told of rows, what is refused before the first step, and damaged files."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import logged_rows, tiny_config

from syncvis.config import RunConfig
from syncvis.errors import Interrupted, StorageError
from syncvis.evaluation.summary import Evaluation
from syncvis.training import run as run_module
from syncvis.training.log import LoggedRow
from syncvis.training.resume import previous
from syncvis.training.run import Runtime, run
from syncvis.training.validation import Validation

Told = list[tuple[int, LoggedRow]]


@pytest.fixture(scope="module")
def config(tiny_data: Path) -> RunConfig:
    return tiny_config({"train.eval_every": 3}, tiny_data)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    out, told = tmp_path_factory.mktemp("whole") / "run", Told()
    run(config, out, Runtime(on_row=lambda line, row: told.append((line, row))))
    return out, told


def _stored(out: Path) -> Told:
    return list(enumerate(map(json.loads, (out / "metrics.jsonl").read_text().splitlines())))


def _stopped(config: RunConfig, out: Path, step: int) -> None:
    """Leave two checkpoints behind."""
    last: list[float] = []
    stop = Runtime(on_row=lambda _, row: last.append(row["step"] or 0), should_stop=lambda: last[-1] == step)
    with pytest.raises(Interrupted):
        run(config, out, stop)


def test_every_row_of_the_file_is_told_with_its_line(whole: tuple[Path, Told]) -> None:
    out, told = whole
    assert told == _stored(out)
    assert [row["step"] for _, row in told] == [1, 2, 3, 3, 4, 5, 6, 6]
    for _, row in told:
        assert ("loss" in row) == ("system/seconds_per_step" in row) == ("system/memory_mib" in row)


def test_a_finished_run_tells_its_rows_again(config: RunConfig, whole: tuple[Path, Told]) -> None:
    out, told = whole
    again: Told = []
    run(config, out, Runtime(on_row=lambda line, row: again.append((line, row))))
    assert again == told


def test_a_continued_run_tells_what_is_kept_and_goes_on(config: RunConfig, tmp_path: Path) -> None:
    out, again = tmp_path / "run", Told()
    _stopped(config, out, 5)
    previous(out / "checkpoint.pt").replace(out / "checkpoint.pt")  # cut back to step 4: rows 0 to 4
    before = _stored(out)
    run(config, out, Runtime(on_row=lambda line, row: again.append((line, row))))
    assert again == _stored(out)
    assert [line for line, _ in again] == list(range(8))
    assert again[:5] == before[:5]
    assert again[5] != before[5]  # written anew: another time


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil", [_flip, lambda path: path.write_bytes(b""), lambda path: os.truncate(path, path.stat().st_size // 2)]
)
def test_a_damaged_checkpoint_changes_nothing_but_the_time(
    config: RunConfig, whole: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    out = tmp_path / "run"
    _stopped(config, out, 5)
    spoil(out / "checkpoint.pt")
    with caplog.at_level(logging.WARNING):
        run(config, out)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{out / 'checkpoint.pt'}: is not a whole checkpoint (" in caplog.text
    assert logged_rows(out) == logged_rows(whole[0])
    assert (out / "model.safetensors").read_bytes() == (whole[0] / "model.safetensors").read_bytes()


def test_without_a_whole_checkpoint_a_run_does_not_start_again(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _stopped(config, out, 5)
    files = [out / "checkpoint.pt", previous(out / "checkpoint.pt")]
    for file in files:
        _flip(file)
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(StorageError, match=r"checkpoint\.pt: is not a whole .* delete both to start this run again"):
        run(config, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_checkpoint_of_another_run_is_refused(config: RunConfig, tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    _stopped(config, out, 5)
    _stopped(config.model_copy(update={"seed": 5}), other, 1)
    shutil.copy(other / "checkpoint.pt", out)
    with pytest.raises(StorageError, match=r"checkpoint\.pt: belongs to run \w+, not to"):
        run(config, out)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
import syncvis.training.run
from syncvis.config import load_config
from syncvis.errors import WorkbenchError

config = load_config(Path(sys.argv[1]))
os.setgid(65534)
os.setuid(65534)
for out in sys.argv[2:]:
    try:
        syncvis.training.run.run(config, Path(out))
    except WorkbenchError as error:
        print(error.exit_code, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not write")
def test_folders_that_may_not_be_written_are_refused_before_data_are_read(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Data that are not there would be exit code 3."""
    folder = tmp_path_factory.mktemp("readonly")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    folders = [folder / "readable", folder / "closed", folder / "closed" / "below"]
    for out, mode in zip(folders[:2], (0o555, 0o000), strict=True):
        out.mkdir()
        out.chmod(mode)
    source = folder / "config.yaml"
    source.write_text(yaml.safe_dump(tiny_config({}, folder / "nowhere").model_dump(mode="json")))
    command = [sys.executable, "-c", UNPRIVILEGED, str(source), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, out in zip(done.stdout.splitlines(), folders, strict=True):
        assert line.startswith(f"4 {out}: cannot be written (Permission denied). Fix: ")
    assert not any(list(out.iterdir()) for out in folders[:2])


def test_a_disk_without_room_for_the_checkpoints_is_refused_before_the_first_step(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30, 2**20))
    monkeypatch.setattr(run_module, "train", None)
    out = tmp_path / "run"
    with pytest.raises(StorageError, match=r"run: the disk has 1 MiB left, and the checkpoints of this run need \d+"):
        run(config, out)
    assert not (out / "metrics.jsonl").exists()


def test_a_disk_that_fills_up_ends_the_run_where_it_can_go_on(
    config: RunConfig, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint does not fit."""
    save, calls = torch.save, list[int]()

    def full(state: Any, stream: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            stream.write(b"some")
            raise OSError(28, "No space left on device")
        save(state, stream)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(StorageError, match=r"checkpoint\.pt: cannot be written \(the disk is full\)") as error:
            run(config, out)
    assert error.value.exit_code == 4
    assert torch.load(out / "checkpoint.pt", weights_only=True)["progress"]["step"] == 3
    run(config, out)
    assert logged_rows(out) == logged_rows(whole[0])
    assert (out / "model.safetensors").read_bytes() == (whole[0] / "model.safetensors").read_bytes()


def test_an_undefined_metric_is_null_in_files_and_nan_in_the_result(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undefined = Evaluation({"AP": math.nan, "AP50": 1.0}, {}, {}, {})
    monkeypatch.setattr(Validation, "__call__", lambda self: undefined.metrics)
    monkeypatch.setattr(Validation, "latest", lambda self: (undefined, []))
    for _ in range(2):  # the second is read from the folder
        result = run(config, tmp_path / "run")
        assert math.isnan(result.metrics["AP"])
        assert math.isnan(result.history[-1]["AP"])
        assert result.to_json()["metrics"] == {"AP": None, "AP50": 1.0}
    text = (tmp_path / "run" / "result.json").read_text() + (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert _stored(tmp_path / "run")[-1][1]["eval/AP"] is None
