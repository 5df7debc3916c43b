"""Entries of the feature cache on their own: types, bounds, faults of the disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from syncvis import feature_cache
from syncvis.errors import StorageError
from syncvis.feature_cache import FeatureCache

KEY, OTHER = "ab" + 62 * "0", "ac" + 62 * "0"
TENSORS = (
    torch.randn(3, 5, 7),
    torch.randn(3, 5).to(torch.bfloat16),
    torch.tensor([float("nan"), -0.0, float("inf")]),
    torch.zeros(2, 0, 4),
    torch.randn(4, 6).T,
)
SIZE = 1024


def test_every_bit_comes_back(tmp_path: Path) -> None:
    FeatureCache(tmp_path, 2**20).put(KEY, TENSORS)
    cache = FeatureCache(tmp_path, 2**20)
    found = cache.get(KEY)
    assert found is not None
    for a, b in zip(found, TENSORS, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.contiguous().flatten().view(torch.uint8).equal(b.contiguous().flatten().view(torch.uint8))
    assert cache.get(OTHER) is None
    assert (cache.counts.hits, cache.counts.misses, cache.counts.damaged) == (1, 1, 0)


def test_a_byte_that_is_wrong_anywhere(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 2**20)
    cache.put(KEY, TENSORS[:1])
    (path,) = tmp_path.rglob("*.features")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert cache.get(KEY) is None
    path.write_bytes(whole)
    assert cache.get(KEY) is not None


def test_the_bound_holds_for_what_others_wrote(tmp_path: Path) -> None:
    """Each knows its own, and looks again when it has written 1/64 of the bound."""
    first, second = (FeatureCache(tmp_path, 64 * SIZE) for _ in range(2))
    for index in range(64):
        for number, cache in enumerate((first, second)):
            cache.put(f"{number}{index:063d}", [torch.zeros(SIZE // 8)])
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*.features"))
    assert 60 * SIZE < taken <= (64 + 2) * SIZE
    assert first.counts.refused + second.counts.refused > 0


def test_a_full_disk_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(tmp_path, 2**20)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        cache.put(KEY, TENSORS)
    cache.put(OTHER, TENSORS)
    assert cache.counts.refused == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [r.message.partition(": ")[2] for r in caplog.records] == ["no space left on device; others are computed"]


def test_the_last_of_a_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "KEPT_FREE", 2**60)
    cache = FeatureCache(tmp_path, 2**20)
    cache.put(KEY, TENSORS)
    assert cache.counts.refused == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        FeatureCache(tmp_path / "file", 2**20)


def test_a_folder_that_is_removed_meanwhile_costs_time_only(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", 2**20)
    (tmp_path / "cache").rmdir()
    cache.put(KEY, TENSORS)
    assert cache.get(KEY) is None
    assert cache.counts.refused == 1
