"""Batches on the device before they are needed: each is copied while the step before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from syncvis.structures import ClipBatch

T = TypeVar("T")
U = TypeVar("U")
Numbered = tuple[int, ClipBatch]


def prefetched(batches: Iterable[Numbered], device: torch.device) -> Iterator[Numbered]:
    """The batches, with their steps, on the device; to a GPU they are copied in a stream of their own.

    Copies from pinned memory run beside the step before. An error of a batch comes when that batch is asked for.
    """
    if device.type != "cuda":
        return ((step, batch.to(device)) for step, batch in batches)
    side = torch.cuda.Stream(device)
    return one_ahead(batches, lambda numbered: _upload(numbered, device, side))


def _upload(numbered: Numbered, device: torch.device, side: torch.cuda.Stream) -> Callable[[], Numbered]:
    """Begin a copy; the result hands it over to the current stream, which waits for it, as the host does not."""
    step, batch = numbered
    with torch.cuda.stream(side):
        moved = batch.to(device)
        done = side.record_event()

    def hand_over() -> Numbered:
        current = torch.cuda.current_stream(device)
        current.wait_event(done)
        for tensor in moved.tensors():
            tensor.record_stream(current)
        return step, moved

    return hand_over


def one_ahead(items: Iterable[T], begin: Callable[[T], Callable[[], U]]) -> Iterator[U]:
    """Yield ``begin(item)()`` of all items; each is begun before the one in front of it is handed out.

    What goes wrong with an item is raised in its turn, after those in front of it.
    """
    source = iter(items)
    finish = _begun(source, begin)
    while finish is not None:
        following = _begun(source, begin)
        yield finish()
        finish = following


def _begun(source: Iterator[T], begin: Callable[[T], Callable[[], U]]) -> Callable[[], U] | None:
    """The next item, begun; None after the last one."""
    try:
        item = next(source)
        return begin(item)
    except StopIteration:
        return None
    except Exception as error:
        return _raising(error)


def _raising(error: Exception) -> Callable[[], Any]:
    def finish() -> Any:
        raise error

    return finish
