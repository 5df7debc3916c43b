"""What a config names is a function: a name in a table of the workbench, or ``module:function`` of one's own.

A table says ``name: "module:function"``, so that names can be read, checked and listed without importing anything. A
module of one's own, a plug-in, is imported only where the command line has allowed it (``--plugin``): a config, or a
ledger of somebody else, must not run code by itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

from syncvis.errors import ConfigError, WorkbenchError

Table = Mapping[str, str]

_MODULE = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_REFERENCE = re.compile(rf"{_MODULE}:[^\W\d]\w*")
_allowed: list[str] = []


def is_reference(name: str) -> bool:
    """Whether this is written as ``module:function``."""
    return _REFERENCE.fullmatch(name) is not None


def allow(modules: Iterable[str] | None) -> None:
    """Let this process import these modules; they are looked for in the working directory, too.

    Raises:
        ConfigError: There is no such module.
    """
    for module in modules or ():
        if not re.fullmatch(_MODULE, module):
            problem = f"{module!r} is not the name of a module"
            raise ConfigError(problem, key="--plugin", fix="name it as in an import: mine for mine.py")
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # last, so that it hides nothing
        if module.partition(".")[0] not in sys.modules and PathFinder.find_spec(module.partition(".")[0]) is None:
            fix = "start in its folder, or name the folder in PYTHONPATH"
            raise ConfigError(f"there is no module {module!r}", key="--plugin", fix=fix)
        if module not in _allowed:
            _allowed.append(module)


def allowed() -> tuple[str, ...]:
    """The modules that this process may import, in the order in which they were allowed."""
    return tuple(_allowed)


def require(modules: Iterable[str]) -> None:
    """Raises ConfigError if one of these modules of one's own is not allowed."""
    missing = sorted(set(modules) - set(_allowed))
    if missing:
        names, flags = ", ".join(missing), " ".join(f"--plugin {module}" for module in missing)
        fix = f"if you trust it, allow it with {flags}"
        raise ConfigError(f"the config names code from outside the workbench: {names}", fix=fix)


def load(name: str, table: Table) -> Any:
    """The function that a config names.

    Raises:
        ConfigError: It is of a module that is not allowed, that cannot be imported, or that has no such function.
    """
    reference = table.get(name, name)
    if not is_reference(reference):
        raise ConfigError(f"{name!r} names nothing", fix=f"name {', '.join(table)} or module:function")
    module, _, function = reference.partition(":")
    if name in table:
        return getattr(import_module(module), function)
    require([module])
    try:
        return getattr(import_module(module), function)
    except WorkbenchError:
        raise
    except Exception as error:  # whatever the module does while it is imported
        problem = f"cannot be loaded ({type(error).__name__}: {error})"
        raise ConfigError(problem, key=name, fix="mend the module") from error
