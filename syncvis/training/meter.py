"""Counting one forward pass: FLOPs, and what autograd keeps for the backward pass; on real tensors or fake ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
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
        backward: FLOPs of the backward pass, by child: for each product of the forward pass one for its weight, where
            that learns, and one for its input. Nothing where no gradient passes, as in a frozen encoder.
        saved: bytes kept for the backward pass, by child, without parameters and buffers.
    """

    flops: dict[str, int]
    backward: dict[str, int]
    saved: dict[str, int]


def forward_cost(model: Method, images: Tensor, valid: Tensor) -> ForwardCost:
    """Count a forward pass in training mode: images (B, T, 3, H, W), valid (B, T, H, W)."""
    meter = _Meter(model)
    with meter.running():
        output = model.decode(model.encode(images, valid))
    cost = ForwardCost(meter.flops(), meter.backward_flops(), meter.saved_bytes())
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
        self._outer: list[tuple[str, int]] = []
        self._counter = FlopCounterMode(display=False)
        self._flops = dict.fromkeys([*self._children, OTHER], 0)
        self._backward = dict.fromkeys(self._flops, 0)
        self._started = 0
        self._own = 0  # FLOPs of the module at work, without those of the modules in it
        self._packed = 0
        self._saved: WeakSet[_Saved] = WeakSet()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside; a module within a child may also be called by itself."""
        hooks = []
        for name, child in self._children.items():
            for module in child.modules():
                hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._enter(name)))
                hooks.append(module.register_forward_hook(self._leave))
        try:
            with self._counter, saved_tensors_hooks(self._pack, lambda saved: saved.tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def flops(self) -> dict[str, int]:
        """FLOPs so far by child."""
        self._count()
        return _positive(self._flops)

    def backward_flops(self) -> dict[str, int]:
        """Those of the backward pass that belongs to the modules that have been left."""
        return _positive(self._backward)

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
        self._count()
        self._outer.append((self._child, self._own))
        self._child, self._own = child, 0

    def _leave(self, module: nn.Module, _: object, output: object) -> None:
        self._count()
        self._backward[self._child] += _backward_products(module, output) * self._own
        self._child, self._own = self._outer.pop()

    def _count(self) -> None:
        """Add what was done since the last count to the child and the module at work."""
        total = self._counter.get_total_flops()
        self._flops[self._child] += total - self._started
        self._own += total - self._started
        self._started = total

    def _pack(self, tensor: Tensor) -> _Saved:
        self._packed += 1
        saved = _Saved(tensor, self._child, self._packed)
        self._saved.add(saved)
        return saved


def _backward_products(module: nn.Module, output: object) -> int:
    """Products of the backward pass for each of a module's forward pass."""
    if not any(x.requires_grad for x in _tensors(output)):
        return 0
    weights = [*module.parameters()]
    return 2 if not weights or any(weight.requires_grad for weight in weights) else 1


def _tensors(output: object) -> list[Tensor]:
    """Those that a module gives, in whatever tuples, dicts and data classes."""
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, _as_dict(output))
    return found


def _as_dict(output: object) -> Any:
    if is_dataclass(output):
        return {name: _as_dict(value) for name, value in vars(output).items()}
    return [_as_dict(x) for x in output] if isinstance(output, list | tuple) else output


def _storage_key(x: Tensor) -> int:
    """The same for all views of one storage: a storage keeps its Python object as long as it lives."""
    return id(x.untyped_storage())


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
