"""What a config names is a function: a name in a table of the workbench, or ``module:function`` of one's own.

A table says ``name: "module:function"``, so that names can be read, checked and listed without importing anything. A
module of one's own is imported only where the command line has allowed it: a config, or a ledger of somebody else, must
not run code by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from syncvis.errors import ConfigError

Table = Mapping[str, str]

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_allowed: set[str] = set()


def is_reference(name: str) -> bool:
    """Whether this is written as ``module:function``."""
    return _REFERENCE.fullmatch(name) is not None


def allow(modules: Iterable[str]) -> None:
    """Let this process import modules of one's own."""
    _allowed.update(modules)


def load(name: str, table: Table) -> Any:
    """The function that a config names.

    Raises:
        ConfigError: It is of a module that is not allowed, or that has no such function, or of none at all.
    """
    reference = table.get(name, name)
    module, _, function = reference.partition(":")
    if not is_reference(reference):
        raise ConfigError(f"{name!r} names nothing", fix=f"name {', '.join(table)} or module:function")
    if name not in table and module not in _allowed:
        raise ConfigError(f"{name!r} is code from outside the workbench", fix=f"allow it with --plugin {module}")
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{name!r}: there is no module {error.name!r}", fix="name one that is there") from None
        raise
    except AttributeError:
        raise ConfigError(f"{name!r}: module {module} has no {function!r}", fix="name one that it has") from None
