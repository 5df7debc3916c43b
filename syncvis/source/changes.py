"""The difference of a working tree to its commit as a patch, and why something is not in it."""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath

from syncvis.privacy import has_secret_name, holds_secret
from syncvis.source.repository import names_in, output

MAX_FILE = 256 * 2**10
"""Bytes of a file up to which its changes are kept."""
MAX_PATCH = 2**20
"""Bytes of all changes, compressed."""
MAX_UNTRACKED = 1000
"""Untracked files up to which each is looked at: more are data that somebody forgot to ignore."""
MAX_NAMED = 20
"""Lines about what was left out; of more files they are counted by folder."""

_DATA = {
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pdf"),
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".ogv"),
    *(".npy", ".npz", ".h5", ".hdf5", ".lmdb", ".parquet", ".pkl", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx"),
    *(".zip", ".gz", ".xz", ".bz2", ".zst", ".tar", ".tgz", ".7z", ".db", ".sqlite", ".so", ".pyc", ".whl"),
}
"""Endings of files that are not text, so that thousands of frames need not be opened."""
_BEGINNING = 8000
"""Bytes in which a zero makes a file binary, for git as well."""
_DIFF = (
    *("diff-index", "--cached", "-p", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("-U3", "--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/", "HEAD"),
)


@dataclass(frozen=True)
class Changes:
    """What differs from the commit.

    Attributes:
        files: the names of all of it, kept or not.
        left_out: lines about what the patch lacks.
    """

    files: Set[str]
    patch: bytes
    left_out: tuple[str, ...]


def changes(top: Path, hidden: Sequence[str], is_code: Callable[[str], bool]) -> Changes:
    """All that differs from the commit in the repository ``top``.

    Args:
        hidden: Patterns of files that count even where git ignores them.
        is_code: Whether a file is one of those that matter most.
    """
    listed = (
        output(top, "diff", "HEAD", "--name-only", "--no-renames", "--ignore-submodules", "-z"),
        output(top, "ls-files", "--others", "--exclude-standard", "-z"),
        output(top, "ls-files", "--others", "-z", "--", *hidden),
    )
    tracked, *untracked = map(names_in, listed)
    found = sorted(tracked.union(*untracked))
    codes = {name for name in found if is_code(name)}
    left_out = _left_out(top, found, codes, tracked)
    parts = None if None in listed else _parts(top, [name for name in found if name not in left_out])
    if parts is None:
        return Changes(set(), b"", ("all changes: git could not tell them",))
    stay = dict(kept(parts, codes, left_out))
    patch = b"".join(stay[name] for name in parts if name in stay)
    return Changes({*parts, *left_out}, patch, told(left_out))


def _left_out(top: Path, found: Sequence[str], codes: Set[str], tracked: Set[str]) -> dict[str, str]:
    """File -> why it is not to be kept, before git is asked for its difference."""
    left_out = {name: reason for name in found if (reason := _unwanted(name, name in codes))}
    rest = [name for name in found if name not in left_out and name not in codes and name not in tracked]
    if len(rest) > MAX_UNTRACKED:
        left_out |= dict.fromkeys(rest, f"one of more than {MAX_UNTRACKED:,} files that git does not know")
    return left_out | {n: reason for n in found if n not in left_out and (reason := _unfit(top / n))}


def _unwanted(name: str, is_code: bool) -> str | None:
    """Why a file is not to be kept, by its name alone."""
    if name.endswith("/"):
        return "a repository of its own"
    # "token" and "secret" are words of our field, too: of code, the content decides.
    if has_secret_name(name) and not is_code:
        return "its name says that it holds a secret"
    return "binary" if PurePath(name).suffix.lower() in _DATA else None


def _unfit(path: Path) -> str | None:
    """Why a file is not to be kept, by its size and beginning; a link, or one that is gone, is."""
    try:
        if path.is_symlink() or not path.exists():
            return None
        if path.stat().st_size > MAX_FILE:
            return f"larger than {MAX_FILE // 2**10} KiB"
        with path.open("rb") as stream:
            return "binary" if b"\0" in stream.read(_BEGINNING) else None
    except OSError:
        return "cannot be read"


def _parts(top: Path, names: list[str]) -> dict[str, bytes] | None:
    """File name -> its part of the patch, in order; None if git fails.

    An index and an object store of our own, thrown away again: nothing is written into the repository.
    """
    objects = os.fsdecode((output(top, "rev-parse", "--git-path", "objects") or b"").rstrip(b"\n"))
    with tempfile.TemporaryDirectory(prefix="syncvis-", ignore_cleanup_errors=True) as folder:
        own = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": f"{folder}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{(top / objects).resolve()}"',
        }
        Path(own["GIT_OBJECT_DIRECTORY"]).mkdir()
        listed = b"".join(os.fsencode(name) + b"\0" for name in names)
        filled = (
            output(top, "read-tree", "HEAD", extra=own),
            output(top, "update-index", "--add", "--remove", "-z", "--stdin", extra=own, given=listed),
        )
        found, patch = output(top, *_DIFF, "--name-status", "-z", extra=own), output(top, *_DIFF, extra=own)
    return None if found is None or patch is None or None in filled else _by_file(found, patch)


def _by_file(status: bytes, patch: bytes) -> dict[str, bytes] | None:
    """The parts of a patch under the names that ``--name-status -z`` gives; None if they do not fit."""
    words = status.split(b"\0")[:-1]
    chunks = iter([chunk for chunk in re.split(rb"^(?=diff --git )", patch, flags=re.MULTILINE) if chunk])
    found = {}
    for kind, name in zip(words[::2], words[1::2], strict=True):
        own = [next(chunks, b"") for _ in range(2 if kind == b"T" else 1)]  # a link in place of a file is two
        found[os.fsdecode(name)] = b"".join(own)
    return None if next(chunks, None) or b"" in found.values() else found


def kept(parts: Mapping[str, bytes], codes: set[str], left_out: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """The parts that stay in the patch, code first; why another does not is added to ``left_out``."""
    size = 0
    for name, part in sorted(parts.items(), key=lambda item: (item[0] not in codes, len(item[1]), item[0])):
        packed = len(zlib.compress(part))
        added = b"\n".join(line[1:] for line in part.split(b"\n") if line.startswith(b"+"))
        if b"\nGIT binary patch\n" in part:
            left_out[name] = "binary"
        elif holds_secret(added.decode("utf-8", "replace"), name in codes or name.endswith(".py")):
            left_out[name] = "it seems to hold a key or password"
        elif len(part) > 2 * MAX_FILE:
            left_out[name] = f"larger than {MAX_FILE // 2**10} KiB"
        elif size + packed > MAX_PATCH:
            left_out[name] = f"beyond the {MAX_PATCH // 2**20} MiB that are kept of all changes"
        else:
            size += packed
            yield name, part


def told(left_out: Mapping[str, str]) -> tuple[str, ...]:
    """A line per file that was left out; of many, a line per reason and folder, or folder above that."""
    lines = [f"{printable(name)}: {reason}" for name, reason in sorted(left_out.items())]
    for depth in (99, 3, 2, 1):
        if len(lines) <= MAX_NAMED:
            break
        groups = Counter((_folder(name, depth), reason) for name, reason in left_out.items())
        lines = [f"{printable(place)}: {n:,} files, {reason}" for (place, reason), n in sorted(groups.items())]
    more = [f"and in {len(lines) - MAX_NAMED} more places"] if len(lines) > MAX_NAMED else []
    return (*lines[:MAX_NAMED], *more)


def _folder(name: str, depth: int) -> str:
    return "".join(f"{part}/" for part in PurePath(name).parent.parts[:depth]) or "./"


def printable(name: str) -> str:
    """A file's name as text, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
