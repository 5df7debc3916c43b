"""metrics.jsonl: what is kept, what is told, and that it is JSON."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import pytest
import torch

from syncvis.errors import StorageError
from syncvis.training.log import LoggedRow, MetricsLog, read_rows
from syncvis.training.system import SystemMeter

Told = list[tuple[int, LoggedRow]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def _log(path: Path, lines: int) -> tuple[MetricsLog, Told]:
    told: Told = []
    return MetricsLog(path, lines, lambda line, row: told.append((line, row))), told


def test_every_row_is_told_with_its_line_once_it_is_in_the_file(path: Path) -> None:
    seen: list[int] = []
    log = MetricsLog(path, 0, lambda line, row: seen.append(len(read_rows(path)) - line))
    log.write({"step": 1})
    log.write({"step": 2})
    assert seen == [1, 1]
    assert log.lines == 2


@pytest.mark.parametrize("beyond", ["", '{"step": 3}\n', '{"step": 3}\n{"st', '{"step"\n', '{"step": 3}'])
def test_after_a_resume_the_kept_rows_come_first_and_numbers_go_on(path: Path, beyond: str) -> None:
    path.write_text('{"step": 1}\n{"step": 2}\n' + beyond)
    log, told = _log(path, 2)
    log.write({"step": 3, "loss": 1.5})
    assert told == [(0, {"step": 1}), (1, {"step": 2}), (2, {"step": 3, "loss": 1.5})]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 1.5}\n'


@pytest.mark.parametrize("content", ["", '{"step": 1}\n', '{"step": 1}\n{"st\n{"step": 2}\n', '{"step": 1}\n7\n'])
def test_a_row_that_the_checkpoint_counts_must_be_there(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(StorageError, match=r"metrics\.jsonl: holds \d whole rows, and the checkpoint .* counts 2"):
        _log(path, 2)
    assert path.read_text() == content


def test_what_is_not_finite_is_null_in_file_and_telling(path: Path) -> None:
    log, told = _log(path, 0)
    log.write({"step": 1, "a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5})
    wanted = {"step": 1, "a": None, "b": None, "c": None, "d": 0.5}
    assert told == [(0, wanted)]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == wanted
    assert read_rows(path) == [wanted]


def test_a_log_that_cannot_be_written_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, told = _log(path, 0)
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written \(Is a directory\)"):
        log.write({"step": 1})
    assert told == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_named(path: Path) -> None:
    log, told = _log(path, 0)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written \(the disk is full\)") as error:
        log.write({"step": 1})
    assert (error.value.exit_code, told) == (4, [])


def test_half_a_line_on_a_full_disk_is_an_error_and_is_dropped_later(path: Path) -> None:
    """A limit of the process takes what fits and says nothing, as a disk does."""
    log, told = _log(path, 0)
    log.write({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written"):
            log.write({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == '{"step": 1}\n{"ste'
    assert [row for _, row in told] == read_rows(path) == [{"step": 1}]


def test_of_a_gpu_its_memory_is_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 8 * 2**20)
    row = SystemMeter(torch.device("cuda", 0), step=0).row(1)
    assert (row["system/gpu_allocated_mib"], row["system/gpu_reserved_mib"]) == (3, 8)


def test_system_values_are_those_since_the_last_row() -> None:
    meter = SystemMeter(torch.device("cpu"), step=10)
    meter._wall -= 8.0
    first = meter.row(12)
    assert first["system/seconds_per_step"] == pytest.approx(4.0, abs=0.5)
    assert 0 <= first["system/cpu"] < 0.5
    assert first["system/memory_mib"] > 10
    assert set(first) == {"system/seconds_per_step", "system/cpu", "system/memory_mib"}
    meter._wall -= 8.0
    meter.restart(12)  # an evaluation is left out
    assert meter.row(13)["system/seconds_per_step"] < 4
