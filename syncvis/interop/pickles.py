"""Reading a pickle of arrays without running anything that it names.

Numpy's own constructors are not handed out: fed with a made-up dtype they read memory that is not theirs. The classes
here note what the pickle says of an array, and the array is made from that: numbers of a plain type, and all of them.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NUMBERS = re.compile(r"[fiu][1248]|b1")


class RefusedGlobal(pickle.UnpicklingError):
    """The pickle names something that is neither an array nor a plain container.

    Args:
        name: module and name of it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {name}")
        self.name = name


class PickledType:
    """A dtype: its code, and its byte order once the state is set."""

    def __init__(self, code: str, *_: object) -> None:
        if not _NUMBERS.fullmatch(code):
            raise RefusedGlobal(f"numpy.dtype({code!r})")
        self.code, self.big_endian = code, False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.big_endian = state[1] == ">"

    def numpy(self) -> np.dtype[Any]:
        return np.dtype((">" if self.big_endian else "<") + self.code)


class PickledArray:
    """An array; empty until its state is set: (..., shape, dtype, Fortran order, bytes)."""

    def __init__(self, *_: object) -> None:
        self.array: NDArray[Any] = np.empty(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, fortran, data = state[-4:]
        # Python 2 stored bytes as text; latin1 gives them back one by one.
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, kind.numpy()).reshape(shape, order="F" if fortran else "C")

    def tensor(self) -> Tensor:
        """The numbers in a tensor of their own."""
        return torch.from_numpy(self.array.astype(self.array.dtype.newbyteorder("="), order="C", copy=True))


def _array_from_buffer(data: Any, kind: PickledType, shape: tuple[int, ...], order: str) -> PickledArray:
    made = PickledArray()
    made.__setstate__((shape, kind, order == "F", data))
    return made


def _scalar(kind: PickledType, data: Any) -> PickledArray:
    return _array_from_buffer(data.encode("latin1") if isinstance(data, str) else data, kind, (), "C")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise RefusedGlobal(f"_codecs.encode(..., {encoding!r})")
    return text.encode("latin1")


def _storage(data: bytes) -> Any:
    """The numbers of a torch tensor, which torch pickles as a file of its own."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _parameter(tensor: Tensor, *_: object) -> Tensor:
    return tensor


ADMITTED: dict[str, Any] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledType,
    "numpy.core.multiarray._reconstruct": PickledArray,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "_codecs.encode": _latin1,
    "collections.OrderedDict": OrderedDict,
    # Mask2Former's conversion of Swin pickles torch tensors.
    "torch._utils._rebuild_tensor_v2": torch.empty(0).__reduce_ex__(2)[0],
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
}
"""What a pickle may name, and what it gets for it."""


class ArrayUnpickler(pickle.Unpickler):
    """Admits arrays and plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands in for a global; anything not in ADMITTED is refused before it is imported."""
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full not in ADMITTED:
            raise RefusedGlobal(full)
        return ADMITTED[full]


def load_arrays(stream: BinaryIO) -> Any:
    """Read one pickle, Python 2's too; arrays come as :class:`PickledArray`.

    Raises:
        RefusedGlobal: It names something else. Nothing of it was run.
        Exception: Whatever a damaged pickle leads to.
    """
    return ArrayUnpickler(stream, encoding="latin1").load()
