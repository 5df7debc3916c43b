"""The source of plug-ins: modules of one's own that a run used, kept beside the source of the workbench.

In a patch, and where that is applied, they lie in a folder of their own, wherever they were found: a path that names no
machine, and from which they can be imported again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from syncvis.source.changes import kept, told

FOLDER = ".plugins"
"""Of a source tree; its content is named as an import finds it: ``mine.py``, ``mine/part.py``."""


@cache
def files_of(module: str) -> Mapping[str, bytes]:
    """Name below FOLDER -> content, of the file of a module or of all ``*.py`` of the package that it is in.

    Read once, at the first call: call it when the module has just been imported. Nothing is imported here. A module
    that is not found, or that has no file, has none.
    """
    return dict(sorted(_files_of(module.split("."))))


def files_in(root: Path) -> Mapping[str, bytes]:
    """The same of a tree to which a patch was applied; none where it has no such folder."""
    return dict(sorted(_below(root / FOLDER, root / FOLDER)))


def parts_of(files: Mapping[str, bytes]) -> tuple[bytes, tuple[str, ...]]:
    """The part of a patch that adds these files to a tree, and lines about what it lacks."""
    text = {f"{FOLDER}/{name}": _new_file(f"{FOLDER}/{name}", x) for name, x in files.items() if b"\0" not in x}
    left_out = {f"{FOLDER}/{name}": "binary" for name, content in files.items() if b"\0" in content}
    patch = b"".join(part for _, part in sorted(kept(text, set(text), left_out)))
    return patch, told(left_out)


def sums(files: Mapping[str, bytes]) -> dict[str, str]:
    """Name -> SHA-256 of the content."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _files_of(parts: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Packages without ``__init__.py`` are passed through: what lies beside the module is not its own."""
    path: list[str] | None = [*sys.path, os.getcwd()]
    for depth, part in enumerate(parts):
        spec = PathFinder.find_spec(part, path)
        if spec is None:
            return
        if spec.origin is None:
            path = list(spec.submodule_search_locations or ())
            continue
        place = Path(spec.origin)
        folder = place.parent.parents[depth] if spec.submodule_search_locations else place.parents[depth]
        inside = place.parent if spec.submodule_search_locations else place
        yield from _below(inside, folder)
        return


def _below(place: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Python files at or below a place, named from a folder."""
    for path in [place] if place.is_file() else place.rglob("*.py"):
        name = path.relative_to(folder)
        if path.suffix == ".py" and path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), path.read_bytes()


def _new_file(name: str, content: bytes) -> bytes:
    """As git writes it."""
    head = f"diff --git a/{name} b/{name}\nnew file mode 100644\n".encode()
    if not content:
        return head + b"index 0000000..e69de29\n"
    lines = content.split(b"\n")
    end = b"" if lines[-1] == b"" else b"\n\\ No newline at end of file\n"
    lines = lines if lines[-1] else lines[:-1]
    size = b"" if len(lines) == 1 else f",{len(lines)}".encode()
    hunk = b"--- /dev/null\n+++ b/" + name.encode() + b"\n@@ -0,0 +1" + size + b" @@\n"
    return head + hunk + b"\n".join(b"+" + line for line in lines) + (end or b"\n")
