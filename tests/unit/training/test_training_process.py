"""Stop signals and determinism of the process that a run happens in."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from syncvis.errors import ConfigError
from syncvis.training.process import CUBLAS_WORKSPACE, deterministic, require_arithmetic, stop_on_signal

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    with stop_on_signal() as signalled:
        assert not signalled()
        signal.raise_signal(number)
        assert signalled()
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_a_second_ctrl_c_acts_as_usual() -> None:
    with stop_on_signal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_of_a_batch_system_may_come_again(number: signal.Signals) -> None:
    with stop_on_signal() as signalled:
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert signalled()


def test_another_thread_leaves_the_signals_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def inside() -> None:
        with stop_on_signal() as signalled:
            found.extend([signal.getsignal(signal.SIGTERM), signalled()])

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [before, False]


def _settings() -> tuple[bool, bool, bool, str | None]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(CUBLAS_WORKSPACE),
    )


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_determinism_ends_with_the_run(monkeypatch: pytest.MonkeyPatch, workspace: str | None) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    if workspace is not None:
        monkeypatch.setenv(CUBLAS_WORKSPACE, workspace)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with deterministic(True):
        assert _settings() == (True, False, False, workspace or ":4096:8")
    assert _settings() == (False, False, True, workspace)
    with deterministic(False):
        assert _settings() == (False, False, True, workspace)


def test_an_operation_without_deterministic_algorithm_is_named() -> None:
    wanted = r"^--deterministic: put_ does not have a deterministic implementation"
    with pytest.raises(ConfigError, match=wanted), deterministic(True):
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([2.0]))
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), deterministic(True):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_a_precision_is_refused_by_what_the_device_itself_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or (7, 0))
    require_arithmetic("bf16", torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"train\.precision: this GPU has no bf16 \(compute capability 7\.0"):
        require_arithmetic("bf16", torch.device("cuda:1"))
    assert asked == [torch.device("cuda:1")]
