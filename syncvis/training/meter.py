"""Counting one forward pass: FLOPs, and what autograd keeps for the backward pass; on real tensors or fake ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from syncvis.methods.base import Method

OTHER = "input"
"""What a model does outside of its children: normalising the images."""


@dataclass(frozen=True)
class ForwardCost:
    """One forward pass.

    Attributes:
        flops: by child of the model; a multiply-add is two. Matrix products, attention and
            convolutions; not the sampling of deformable attention, not the losses.
        saved: bytes kept for the backward pass, by child, without parameters and buffers.
    """

    flops: dict[str, int]
    saved: dict[str, int]


def forward_cost(model: Method, images: Tensor, valid: Tensor) -> ForwardCost:
    """Count a forward pass in training mode: images (B, T, 3, H, W), valid (B, T, H, W)."""
    meter = _Meter(model)
    with meter.running():
        output = model.decode(model.encode(images, valid))
    cost = ForwardCost(meter.flops(), meter.saved_bytes())
    del output  # whose graph had to live until here
    return cost


def forward_flops(model: Method, images: Tensor, valid: Tensor) -> int:
    """The sum of :func:`forward_cost`'s FLOPs alone, which takes about half as long."""
    with torch.no_grad(), _Flops() as counted:
        model.decode(model.encode(images, valid))
    return counted.total


class _Flops(TorchDispatchMode):
    """Adds up FLOPs by torch's own formulas; those of what makes up an operator count when that is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


class _Saved:
    """A tensor that autograd keeps; it dies with the graph that it belongs to."""

    def __init__(self, tensor: Tensor, child: str, order: int) -> None:
        self.tensor, self.child, self.order = tensor, child, order


class _Meter:
    """Counts FLOPs and saved tensors by the child of the model that is at work, OTHER between them."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._children = dict(model.named_children())
        self._child = OTHER
        self._outer: list[str] = []
        self._counter = FlopCounterMode(display=False)
        self._flops = dict.fromkeys([*self._children, OTHER], 0)
        self._started = 0
        self._packed = 0
        self._saved: WeakSet[_Saved] = WeakSet()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside; a module within a child may also be called by itself."""
        hooks = []
        for name, child in self._children.items():
            for module in child.modules():
                hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._enter(name)))
                hooks.append(module.register_forward_hook(lambda *_: self._leave()))
        try:
            with self._counter, saved_tensors_hooks(self._pack, lambda saved: saved.tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def flops(self) -> dict[str, int]:
        """FLOPs so far by child."""
        self._switch(self._child)
        return _positive(self._flops)

    def saved_bytes(self) -> dict[str, int]:
        """Bytes of the storages that are still kept, each at the child that kept it first."""
        known = {_storage_key(x) for x in [*self.model.parameters(), *self.model.buffers()]}
        by_child = dict.fromkeys(self._flops, 0)
        for saved in sorted(self._saved, key=lambda saved: saved.order):
            key = _storage_key(saved.tensor)
            if key not in known:
                known.add(key)
                by_child[saved.child] += saved.tensor.untyped_storage().nbytes()
        return _positive(by_child)

    def _enter(self, child: str) -> None:
        self._outer.append(self._child)
        self._switch(child)

    def _leave(self) -> None:
        self._switch(self._outer.pop())

    def _switch(self, child: str) -> None:
        total = self._counter.get_total_flops()
        self._flops[self._child] += total - self._started
        self._child, self._started = child, total

    def _pack(self, tensor: Tensor) -> _Saved:
        self._packed += 1
        saved = _Saved(tensor, self._child, self._packed)
        self._saved.add(saved)
        return saved


def _storage_key(x: Tensor) -> int:
    """The same for all views of one storage: a storage keeps its Python object as long as it lives."""
    return id(x.untyped_storage())


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
