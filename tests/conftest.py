from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from postgres import PostgresServer, missing

from syncvis import cli, references
from syncvis.data.synthetic import SyntheticConfig, write_synthetic

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where tests and the processes that they start remember looks: not in the user's own folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def allowed_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test allows to import, the next one does not."""
    monkeypatch.setattr(references, "_allowed", [*references.allowed()])


@pytest.fixture(autouse=True)
def signals_of_the_process() -> Iterator[None]:
    """What one test does with signals of its own process, as a worker or a trial does, the next one does not see."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a read-only synthetic data set: 4 train, 2 valid, 1 test video of 4 frames of 32 x 48, 2 stills."""
    config = SyntheticConfig(train=4, valid=2, test=1, stills=2, frames=4, height=32, width=48)
    return write_synthetic(tmp_path_factory.mktemp("data") / "tiny", config, 0)


@pytest.fixture
def syncvis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.setattr(cli, "_add_plugins", lambda: None)
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["syncvis", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the tests of this process; a test takes a new database of it by ``database(name)``."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="syncvis-") as folder:  # the server's user cannot enter pytest's own
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.stop("immediate")
