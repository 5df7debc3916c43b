"""One batch ahead: the order of what is begun and handed out, and errors in their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from helpers import random_batch

from syncvis.errors import DataError
from syncvis.training.prefetch import one_ahead, prefetched


def test_the_next_item_is_begun_before_one_is_handed_out() -> None:
    events: list[str] = []

    def begin(item: int) -> Callable[[], int]:
        events.append(f"begin {item}")
        return lambda: item

    for item in one_ahead(range(3), begin):
        events.append(f"use {item}")
    assert events == ["begin 0", "begin 1", "use 0", "begin 2", "use 1", "use 2"]
    assert list(one_ahead(range(0), begin)) == []


@pytest.mark.parametrize("where", ["read", "begin"])
def test_an_error_comes_in_its_turn(where: str) -> None:
    used: list[int] = []

    def items() -> Iterator[int]:
        yield from range(2)
        if where == "read":
            raise DataError("torn", file="frame", fix="mend it")
        yield 2

    def begin(item: int) -> Callable[[], int]:
        if item == 2:
            raise DataError("torn", file="frame", fix="mend it")
        return lambda: item

    with pytest.raises(DataError, match="torn"):
        used.extend(one_ahead(items(), begin))
    assert used == [0, 1]


def test_on_the_cpu_nothing_is_read_ahead() -> None:
    read, batch = [], random_batch(2, (2, 1))

    def batches() -> Iterator[tuple[int, object]]:
        for step in range(2):
            read.append(step)
            yield step, batch

    stream = prefetched(batches(), torch.device("cpu"))  # type: ignore[arg-type]
    step, first = next(stream)
    assert (step, read) == (0, [0])
    assert all(x is y for x, y in zip(first.tensors(), batch.tensors(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_arrive_whole_on_a_gpu() -> None:
    batches = [random_batch(2, (2, 1), seed) for seed in range(4)]
    pinned = ((step, batch.pin_memory()) for step, batch in enumerate(batches))
    for step, moved in prefetched(pinned, torch.device("cuda", 0)):
        for found, wanted in zip(moved.tensors(), batches[step].tensors(), strict=True):
            assert found.is_cuda
            assert torch.equal(found.cpu(), wanted)
