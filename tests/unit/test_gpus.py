"""Counting GPUs without torch, as CUDA would show them to a process that is started here."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from syncvis import gpus
from syncvis.errors import ConfigError


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_number_of_devices", lambda: 8)
    monkeypatch.delenv(gpus.VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, tuple("01234567")),
        ("", ()),
        ("-1", ()),
        ("2,3", ("2", "3")),
        (" 2 , 3", ("2", "3")),
        ("5,8,6", ("5",)),  # CUDA stops at the first that is not there
        ("1,1", ()),  # and takes none where one stands twice
        ("GPU-1a2b,GPU-3c4d", ("GPU-1a2b", "GPU-3c4d")),
        ("MIG-7f", ("MIG-7f",)),
    ],
)
@pytest.mark.usefixtures("eight")
def test_the_visible_ones_are_those_that_cuda_would_show(
    variable: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv(gpus.VISIBLE, variable)
    assert gpus.visible() == expected
    assert gpus.count() == len(expected)


@pytest.mark.usefixtures("eight")
def test_an_index_is_one_of_those_that_this_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus.chosen(["0", "7"]) == ("0", "7")
    monkeypatch.setenv(gpus.VISIBLE, "4,6")
    assert gpus.chosen(["1", "0", "GPU-1a"]) == ("6", "4", "GPU-1a")
    for absent in ("2", "-1", "first"):
        with pytest.raises(LookupError, match=absent):
            gpus.chosen([absent])


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of device files of a machine without NVML."""
    monkeypatch.setattr(gpus, "LIBRARY", "libno-such-library.so.1")
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    return tmp_path


def test_without_a_driver_there_is_none(no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.VISIBLE, "0,GPU-1a")
    assert gpus.count() == 0


def test_a_container_without_the_library_still_shows_its_devices(no_library: Path) -> None:
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "null"):
        (no_library / name).touch()
    assert gpus.count() == 2
    assert gpus.capability("0") is None


def test_what_is_needed_is_named_with_what_is_there(no_library: Path) -> None:
    gpus.require(0)
    with pytest.raises(ConfigError, match=r"^GPUs: 8 needed, this machine shows 0\. Fix: .*--device cpu$"):
        gpus.require(8)


class _Nvml:
    """NVML that answers ``initialised`` and, where that is 0, three devices."""

    def __init__(self, initialised: int):
        self._initialised, self.open = initialised, 0

    def nvmlInit_v2(self) -> int:
        self.open += self._initialised == 0
        return self._initialised

    def nvmlDeviceGetCount_v2(self, number: Any) -> int:
        number._obj.value = 3
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.value = 100 + index.value
        return 0 if index.value < 3 else 2

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = handle.value - 93, 5
        return 0

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0


@pytest.mark.parametrize(("initialised", "expected"), [(0, 3), (9, 0)])
def test_the_driver_is_asked_and_let_go(initialised: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _Nvml(initialised)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    assert gpus.count() == expected
    assert nvml.open == 0


def test_the_driver_tells_the_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _Nvml(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    assert [gpus.capability(name) for name in ("0", "1", "3", "GPU-1a")] == [(7, 5), (8, 5), None, None]
    assert nvml.open == 0
