"""Counting GPUs without torch, as CUDA would show them to a process that is started here."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from syncvis import gpus


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


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "LIBRARY", "libno-such-library.so.1")
    monkeypatch.setenv(gpus.VISIBLE, "0,GPU-1a")
    assert gpus.count() == 0


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
