"""Where a process stands among others; two of them at work are in tests/integration/test_training_processes.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from syncvis import distributed
from syncvis.errors import ConfigError


def test_one_process_agrees_with_itself() -> None:
    with distributed.joined("cpu") as device:
        assert device == "cpu"
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.any_process(True)
    assert not distributed.any_process(False)
    assert distributed.gather("mine") == ["mine"]
    x = torch.tensor([1, 2])
    assert distributed.mean_over_processes(x) is x
    distributed.share_buffers(nn.BatchNorm1d(2))
    distributed.wait_for_all()


def test_cores_are_shared_by_the_processes_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert distributed.processes_here() == 1, "left over from a launcher of another kind"
    monkeypatch.setattr(distributed, "world_size", lambda: 16)
    assert distributed.processes_here() == 8


def test_a_place_that_is_only_partly_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    wanted = "environment: WORLD_SIZE is 4 but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set. Fix: start .* torchrun"
    with pytest.raises(ConfigError, match=wanted), distributed.joined("cpu"):
        pass


@pytest.mark.parametrize(("local_rank", "wanted"), [(None, "cuda"), ("2", "cuda:2")])
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, local_rank: str | None, wanted: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0 if local_rank is None else 2)
    if local_rank is not None:
        place = {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"--device: {wanted} is not there"), distributed.joined("cuda"):
        pass
