"""How a run is carried out: defaults of the machine that trains, words of a command, JSON, and what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_config

from syncvis.errors import ConfigError
from syncvis.execution import MAX_LOADER_WORKERS, PLAIN, Execution, require_precision, require_shares
from syncvis.training.runtime import Runtime

FULL = Execution("cuda", 3, 5, checkpoint_activations=True, deterministic=True)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda number: monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(number)))


@pytest.mark.parametrize(
    ("device", "number", "sharing", "expected"),
    [
        ("cpu", 64, 1, 0),
        ("cuda", 4, 1, 3),
        ("cuda", 64, 1, MAX_LOADER_WORKERS),
        ("cuda", 64, 8, 7),
        ("cuda", 64, 16, 3),
        ("cuda", 2, 8, 1),
        ("cuda:1", 1, 1, 1),
    ],
)
def test_loader_processes_fit_the_device_and_its_share_of_the_cores(
    cores: Any, device: str, number: int, sharing: int, expected: int
) -> None:
    cores(number)
    assert Execution(device).resolved(sharing).loader_workers == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("asked", [0, 20])
def test_a_number_that_is_asked_for_wins(cores: Any, device: str, asked: int) -> None:
    cores(4)
    execution = Execution(device, loader_workers=asked)
    assert execution.resolved(9) is execution


def test_what_is_resolved_keeps_everything_else() -> None:
    told: list[int] = []
    runtime = Runtime(device="cuda", threads=2, deterministic=True, on_row=lambda line, row: told.append(line))
    resolved = runtime.resolved()
    assert isinstance(resolved, Runtime)
    assert (resolved.threads, resolved.deterministic, resolved.on_row) == (2, True, runtime.on_row)


def test_json_goes_both_ways_and_an_older_one_still_opens() -> None:
    assert Execution.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL
    assert Execution.from_json({"device": "cuda", "of another version": 1}) == Execution("cuda")
    assert set(Runtime(progress=True).to_json()) == set(PLAIN.to_json())


def test_words_are_those_of_every_command() -> None:
    assert PLAIN.words() == ["--device", "cpu", "--threads", "1"]
    flags = ["--checkpoint-activations", "--deterministic"]
    assert FULL.words() == ["--device", "cuda", "--threads", "3", "--loader-workers", "5", *flags]


def test_libraries_are_told_of_the_threads() -> None:
    assert FULL.environment() == {
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"device": "gpu"}, r"--device: 'gpu' is no device. Fix: give cpu or cuda"),
        ({"device": "cuda:x"}, "--device"),
        ({"threads": 0}, "--threads: 0 is no number"),
        ({"loader_workers": -1}, "--loader-workers: -1 is no number"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_option(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Execution(**wrong)


def test_it_is_no_part_of_the_identity_of_a_run() -> None:
    names = set(PLAIN.to_json())
    assert not names & set(json.dumps(tiny_config().model_dump(mode="json")).split('"'))


@pytest.mark.parametrize("capability", [(7, 5), (5, 2)])
def test_bf16_is_refused_where_it_is_emulated(capability: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"^train\.precision: this GPU has no bf16 .*Fix: set train\.precision=fp16"):
        require_precision("bf16", capability)
    for precision in ("fp16", "float32"):
        require_precision(precision, capability)


@pytest.mark.parametrize("capability", [None, (8, 0), (12, 0)])
def test_every_precision_is_done_by_the_cpu_and_newer_gpus(capability: tuple[int, int] | None) -> None:
    for precision in ("bf16", "fp16", "float32"):
        require_precision(precision, capability)


def test_a_batch_is_shared_out_equally() -> None:
    assert require_shares(16, 4, 2) == 2
    with pytest.raises(ConfigError, match=r"train\.batch_size: 16 clips cannot be shared by 8 processes in 4 passes"):
        require_shares(16, 8, 4)


def test_a_plan_needs_no_torch_for_it() -> None:
    for name in ("execution", "options", "gpus"):
        text = (Path(__file__).parents[2] / "syncvis" / f"{name}.py").read_text()
        assert "import torch" not in text
