"""Resume points: whole or noticed, the one before in reserve, and a kill or a full disk that costs nothing."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_config, tiny_model

from syncvis.errors import StorageError
from syncvis.files import remove_litter
from syncvis.training import resume
from syncvis.training.optim import build_optimizer
from syncvis.training.resume import COPIES, estimated_size, load_checkpoint, previous, put_back, save_checkpoint

KILLS = int(os.environ.get("SYNCVIS_KILLS", "25"))
"""Kills while saving; SYNCVIS_KILLS=200 for a thorough test."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


def _state(step: int, numbers: int = 100) -> dict[str, Any]:
    return {"cell_hash": "this", "w": torch.full((numbers,), float(step)), "progress": {"step": step}}


def _two(path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(path, _state(step))


def _refusal(path: Path) -> str:
    with pytest.raises(StorageError) as error:
        load_checkpoint(path, "this")
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "Fix: " in text
    assert "\n" not in text
    return text


def test_round_trip(path: Path) -> None:
    state = {"cell_hash": "this", "model": {"w": torch.arange(3.0)}, "progress": {"step": 4, "history": [{"AP": 1.5}]}}
    save_checkpoint(path, state)
    loaded, source = load_checkpoint(path, "this")
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])  # type: ignore[index]
    assert (loaded["progress"], source) == (state["progress"], path)
    assert list(path.parent.iterdir()) == [path]


def test_pytorch_reads_the_file_too(path: Path) -> None:
    save_checkpoint(path, _state(3))
    assert torch.load(path, weights_only=True)["progress"] == {"step": 3}


def test_the_one_before_is_kept(path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(path, _state(step))
    assert sorted(p.name for p in path.parent.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert [torch.load(p, weights_only=True)["progress"]["step"] for p in (path, previous(path))] == [3, 2]


def test_another_run_is_refused_even_if_the_one_before_is_its_own(path: Path) -> None:
    _two(path)
    save_checkpoint(path, {"cell_hash": "other"})
    assert "belongs to run other, not to this" in _refusal(path)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _cut(to: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, to(path.stat().st_size))


def _unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "half": (_cut(lambda n: n // 2), "is not a whole checkpoint (it ends too early)"),
    "one byte less": (_cut(lambda n: n - 1), "is not a whole checkpoint ("),
    "empty": (_cut(lambda _: 0), "is not a whole checkpoint ("),
    "flipped bit": (_flip, "is not a whole checkpoint (its checksum is wrong)"),
    "unreadable": (_unreadable, "cannot be read (Is a directory)"),
    "text": (lambda p: p.write_bytes(b"not a checkpoint, but longer") and None, "is not a whole checkpoint ("),
    "code": (lambda p: p.write_bytes(b"\x80\x02cos\nsystem\n.") and None, "is not a whole checkpoint ("),
    "no mapping": (lambda p: torch.save([1, 2], p), "is not a whole checkpoint ("),
    "gone": (Path.unlink, "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_costs_one_interval_and_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    _two(path)
    spoil, reason = DAMAGES[damage]
    spoil(path)
    with caplog.at_level(logging.WARNING):
        state, source = load_checkpoint(path, "this")
    assert state["progress"] == {"step": 1}
    assert [record.getMessage() for record in caplog.records] == [caplog.records[0].getMessage()]
    assert caplog.records[0].getMessage().startswith(f"{path}: {reason}")
    assert caplog.records[0].getMessage().endswith("going on from checkpoint.previous.pt")

    put_back(source, path)
    save_checkpoint(path, _state(2))  # the damaged file must not have become the one before
    assert [load_checkpoint(p, "this")[0]["progress"]["step"] for p in (path, previous(path))] == [2, 1]


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "gone"])
@pytest.mark.parametrize("number", [1, 2])
def test_without_a_whole_file_there_is_an_error_and_nothing_is_touched(path: Path, damage: str, number: int) -> None:
    spoil, reason = DAMAGES[damage]
    files = [path, previous(path)][:number]
    _two(path)
    previous(path).unlink() if number == 1 else None
    for file in files:
        spoil(file)
    text = _refusal(path)
    assert reason in text
    assert ("checkpoint.previous.pt" in text) == (number == 2)
    assert all(file.exists() for file in files)


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    save_checkpoint(path, _state(1, numbers=4))
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 200, 1)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        _refusal(path)


def test_the_size_is_known_before_the_first_step(path: Path) -> None:
    model = tiny_model({"model.hidden_dim": 64})
    optimizer = build_optimizer(model, tiny_config().train)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    save_checkpoint(path, {"cell_hash": "this", "model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert estimated_size(model) == pytest.approx(path.stat().st_size, rel=0.25)
    assert COPIES == 3


KILLED_WHILE_SAVING = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from syncvis.errors import StorageError
from syncvis.files import remove_litter
from syncvis.training.resume import exists, load_checkpoint, previous, put_back, save_checkpoint

torch.set_num_threads(1)
path, kills = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(0)

def save_for_ever(step):
    state = {"cell_hash": "this", "w": torch.zeros(1_250_000)}
    while True:
        step += 1
        save_checkpoint(path, state | {"progress": {"step": step}})

reached = littered = damaged = 0
save_checkpoint(path, {"cell_hash": "this", "progress": {"step": 0}})
for _ in range(kills):
    child = os.fork()
    if child == 0:
        save_for_ever(reached)
    time.sleep(chance.uniform(0.005, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    littered += len(list(path.parent.glob(".*.tmp")))
    remove_litter(path.parent)
    state, source = load_checkpoint(path, "this")
    if source != path:
        damaged += path.exists()
        put_back(source, path)
    assert state["progress"]["step"] >= reached, (state["progress"], reached)
    reached = state["progress"]["step"]
save_checkpoint(path, {"cell_hash": "this", "progress": {"step": reached}})  # the last kill may have taken the reserve
print(reached, littered, damaged, sorted(p.name for p in path.parent.iterdir()))
"""


def test_killed_while_saving_the_last_checkpoint_always_loads(path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(path), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + KILLS)
    assert done.returncode == 0, done.stderr
    reached, littered, damaged, names = done.stdout.split(maxsplit=3)
    assert int(reached) > KILLS / 2
    assert int(littered) > KILLS / 4  # the kills did strike while a file was being written
    assert int(damaged) == 0
    assert names.strip() == "['checkpoint.previous.pt', 'checkpoint.pt']"


def test_litter_of_processes_that_are_gone_or_of_this_one_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owners = {gone.pid: False, os.getpid(): False, os.getppid(): True}
    for owner in owners:
        (tmp_path / f".checkpoint.pt.{owner}.tmp").touch()
    others = [tmp_path / name for name in (".notes.tmp", "a.1.tmp", "checkpoint.pt")]
    for other in others:
        other.touch()
    remove_litter(tmp_path)
    kept = [tmp_path / f".checkpoint.pt.{owner}.tmp" for owner, alive in owners.items() if alive]
    assert sorted(tmp_path.iterdir()) == sorted([*others, *kept])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount command ({error})")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _assert_untouched_by_a_failed_save(path: Path, message: str, numbers: int) -> None:
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(StorageError) as error:
        save_checkpoint(path, _state(3, numbers))
    assert str(error.value).startswith(f"{path}: cannot be written ({message})")
    assert error.value.exit_code == 4
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert load_checkpoint(path, "this")[0]["progress"] == {"step": 2}


def test_a_full_disk_leaves_both_checkpoints(small_disk: Path) -> None:
    path = small_disk / "checkpoint.pt"
    _two(path)
    _assert_untouched_by_a_failed_save(path, "the disk is full", 1_000_000)


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EIO, "Inp")]
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fails_leaves_both_checkpoints(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str, call: str
) -> None:
    _two(path)

    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(resume, "_Summed", lambda stream: _Failing(stream, fail))
    with pytest.raises(StorageError, match=rf"checkpoint\.pt: cannot be written \({message}"):
        save_checkpoint(path, _state(3))
    assert [load_checkpoint(p, "this")[0]["progress"]["step"] for p in (path, previous(path))] == [2, 1]
    assert len(list(path.parent.iterdir())) == 2


class _Failing(resume._Summed):
    """A stream whose disk fails after the first bytes."""

    def __init__(self, stream: Any, fail: Callable[..., int]) -> None:
        super().__init__(stream)
        stream.write(b"some")
        self._stream = type("Disk", (), {"write": fail, "flush": stream.flush})()


def test_a_file_that_may_not_grow_leaves_both_checkpoints(path: Path) -> None:
    """A limit of the process: torch then says only that a position was unexpected."""
    _two(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        _assert_untouched_by_a_failed_save(path, os.strerror(errno.EFBIG), 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_the_order_of_calls_is_safe(path: Path) -> None:
    """Killed between the two moves of a save, the one before is there."""
    _two(path)
    path.replace(previous(path))
    state, source = load_checkpoint(path, "this")
    assert (state["progress"], source) == ({"step": 2}, previous(path))
