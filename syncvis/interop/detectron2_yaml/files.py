"""Reading YAML files of detectron2: ``_BASE_`` chains, and strings that hold Python values."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncvis.config import read_yaml
from syncvis.errors import ConfigError

BASE = "_BASE_"


def read_flat(path: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Dotted key -> value of a YAML file and the files it builds on.

    Later files win key by key, and a list replaces a list, as in fvcore/common/config.py. Strings such as
    ``"(360, 480)"`` become the Python value they spell.

    Args:
        above: the files that led here, to find loops.

    Raises:
        ConfigError: A file cannot be read, the bases form a loop or lie on the network.
    """
    path = Path(path)
    if path.resolve() in above:
        raise ConfigError("is its own base", file=path, key=BASE, fix="break the loop of base files")
    tree = read_yaml(path)
    flat: dict[str, Any] = {}
    for base in _bases(tree.pop(BASE, []), path):
        flat.update(read_flat(base, (*above, path.resolve())))
    flat.update(flatten(tree))
    return flat


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted keys; values are decoded."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: _decode(value)})
    return flat


def _bases(value: Any, path: Path) -> list[Path]:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"is {value!r}, not a path", file=path, key=BASE, fix="name a YAML file")
    if remote := [name for name in names if "://" in name]:
        raise ConfigError(f"{remote[0]} is on the network", file=path, key=BASE, fix="download it and name the copy")
    return [path.parent / Path(name).expanduser() for name in names]


def _decode(value: Any) -> Any:
    """Lists as tuples, and strings read as Python where they are (yacs)."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return tuple(_decode(item) for item in value) if isinstance(value, list | tuple) else value
