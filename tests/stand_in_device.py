"""A stand-in for a GPU that computes on the CPU and counts what a GPU would make the host wait for.

Its tensors say that they are on the ``meta`` device, hold their values in a tensor of the CPU, and can be neither read
nor mixed with tensors of the host but through the dispatcher, which is where waits are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten

READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
SIZED_BY_VALUES = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
}
"""Operators whose result has a size that only the values tell: a GPU's host reads it from there."""

INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class OnDevice(Tensor):
    """A tensor of the stand-in; ``inner`` holds its values on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on the stand-in outside of counted_waits()")


class _Dispatch(TorchDispatchMode):
    """Runs operators on the values and counts those that wait."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        there = [x for x in leaves if isinstance(x, OnDevice)]
        if not there and not any(_is_device(x) for x in leaves):
            return func(*args, **kwargs)
        here = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
        moved_here = func is aten._to_copy.default and kwargs.get("device", DEVICE) != DEVICE
        read = func in READS or moved_here or (func is aten.copy_.default and not isinstance(args[0], OnDevice))
        if read:
            self._count(func)
        elif func in SIZED_BY_VALUES or (func in INDEXING and any(x.dtype == torch.bool for x in _indices(args))):
            self._count(func, "sized by values")
        elif any(x.ndim or func in COPIES for x in here):
            assert func in COPIES | INDEXING, f"{func} mixes tensors of host and device"
            waiting = not (kwargs.get("non_blocking") or (func is aten.copy_.default and args[2:] == (True,)))
            if waiting:
                self._count(func, "of host data")
        out = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
        return out if read else tree_map(_wrapped, out)

    def _count(self, func: Any, how: str = "") -> None:
        self.waits[f"{func.overloadpacket.__name__} {how}".strip()] += 1


def _indices(args: Sequence[Any]) -> list[Tensor]:
    return [x for x in args[1] if isinstance(x, Tensor)]


def _is_device(x: Any) -> bool:
    return isinstance(x, torch.device) and x == DEVICE


def _unwrapped(x: Any) -> Any:
    return x.inner if isinstance(x, OnDevice) else torch.device("cpu") if _is_device(x) else x


def _wrapped(x: Any) -> Any:
    return OnDevice(x) if isinstance(x, Tensor) and not isinstance(x, OnDevice) else x


class _Functions(TorchFunctionMode):
    """What never reaches the dispatcher: lists that become tensors, and tensors that become lists."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], OnDevice):
            return func(args[0].cpu())
        if func is torch.tensor and kwargs.get("device") == DEVICE:
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        if func is Tensor.new_tensor and isinstance(args[0], OnDevice):
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(DEVICE)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            moved = tuple(torch.tensor(i).to(DEVICE) if isinstance(i, list) else i for i in index)
            args = (args[0], moved if isinstance(args[1], tuple) else moved[0], *args[2:])
        return func(*args, **kwargs)


def put_on_device(module: nn.Module) -> None:
    """Move parameters and buffers of a module, in place."""
    moved: dict[int, Tensor] = {}

    def there(x: Tensor) -> Tensor:
        return moved.setdefault(id(x), _parameter(x) if isinstance(x, nn.Parameter) else OnDevice(x))

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: there(x) for name, x in tensors.items() if x is not None})  # type: ignore[call-overload]


def _parameter(x: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(OnDevice(x.detach()), x.requires_grad)


@contextmanager
def counted_waits() -> Iterator[Counter[str]]:
    """How often the host waits inside, by operator; tensors of the stand-in can be used here only.

    A copy of host data counts where it does not say ``non_blocking``. Autocast, which does not know the stand-in's
    device, is left out.
    """
    waits: Counter[str] = Counter()
    with ExitStack() as stack:
        stack.enter_context(patch("torch.autocast", lambda *_, **__: nullcontext()))
        stack.enter_context(_Functions())
        stack.enter_context(_Dispatch(waits))
        yield waits
