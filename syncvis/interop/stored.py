"""Files of published weights -> tensors by their published names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from syncvis.errors import StorageError
from syncvis.interop.pickles import PickledArray, RefusedGlobal, load_arrays
from syncvis.training.checkpoint import read_weights

WRAPPERS = ("model", "state_dict", "model_state_dict", "blobs")
"""Keys below which files keep the weights, beside optimizer state and the like."""

PICKLES, TORCH_FILES = (".pkl", ".pickle"), (".pth", ".pt", ".bin", ".pyth")


def read_stored(path: str | Path) -> dict[str, Tensor]:
    """Read ``.pth`` / ``.pt`` (torch), ``.pkl`` (detectron2's model zoo) or ``.safetensors``; runs no code of the file.

    Raises:
        StorageError: The file is missing, damaged, of another kind, names code, or holds no weights.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return as_tensors(read_weights(path), path)
    if path.suffix not in PICKLES + TORCH_FILES:
        fix = f"give a file that ends in {', '.join([*TORCH_FILES, *PICKLES, '.safetensors'])}"
        raise StorageError(f"has an unknown ending {path.suffix!r}", file=path, fix=fix)
    return as_tensors(_load(path), path)


def _load(path: Path) -> Any:
    """The content of a torch file or a pickle. Damage may raise any exception there is."""
    try:
        if path.suffix in TORCH_FILES:
            return torch.load(path, map_location="cpu", weights_only=True)
        with path.open("rb") as stream:
            return load_arrays(stream)
    except OSError as error:
        raise StorageError(f"cannot be read ({error.strerror})", file=path, fix="check the path") from None
    except Exception as error:
        raise _no_weights(path, error) from None


def _no_weights(path: Path, error: Exception) -> StorageError:
    """Why nothing came out: something was refused (by us, or by torch, whose message names it), or damage."""
    by_torch = re.search(r"GLOBAL ([\w.]+)", str(error))
    refused = error.name if isinstance(error, RefusedGlobal) else by_torch and by_torch[1]
    if not refused:
        problem = f"is not a whole file of weights ({type(error).__name__})"
        return StorageError(problem, file=path, fix="get it again")
    problem = f"names {refused}, which is neither a tensor nor a plain container; nothing of it was run"
    return StorageError(problem, file=path, fix="store the state dict alone, and use files of trusted sources only")


def as_tensors(content: object, file: str | Path | None = None) -> dict[str, Tensor]:
    """The state dict inside whatever a file held: wrappers taken off, arrays made tensors, DDP's ``module.`` cut.

    Raises:
        StorageError: There is no mapping of names to tensors.
    """
    while isinstance(content, Mapping) and (inner := _unwrapped(content)) is not None:
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise StorageError("holds no weights by name", file=file, fix="give the file of a model's state dict")
    tensors = {str(name): _tensor(value) for name, value in content.items()}
    other = [name for name, tensor in tensors.items() if tensor is None]
    if other:
        raise StorageError(
            f"holds no tensor under {spell(other)}", file=file, fix="give the file of a model's state dict"
        )
    found = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    parallel = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if parallel else name: tensor for name, tensor in found.items()}


def spell(names: Iterable[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    first = list(names)
    return ", ".join(first[:shown]) + (f" and {len(first) - shown} more" if len(first) > shown else "")


def _unwrapped(content: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    return next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, PickledArray):
        return value.tensor()
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.array(value))
    return value.detach() if isinstance(value, Tensor) else None
