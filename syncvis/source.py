"""The source code of this process: a fingerprint of it, and what of it no commit holds, so that it can be had back.

Three things are kept apart: the code that makes the numbers (the fingerprint), the difference to the commit (a patch,
within bounds and without secrets), and what was left out of the patch, by name. The configuration is none of them: a
cell's hash identifies it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from syncvis.files import write_bytes
from syncvis.privacy import has_secret_name, holds_secret

PACKAGES = ("syncvis", "sweeps", "analysis")
BESIDE = ("pyproject.toml", "constraints.txt")
"""Files beside the packages that say what they run with."""
MAX_FILE = 256 * 2**10
"""Bytes of a file up to which its changes are kept."""
MAX_PATCH = 2**20
"""Bytes of all changes, compressed."""
MAX_NAMED = 20
"""Lines about what was left out; of more files they are counted by folder."""

_SECONDS = 60
_PLAIN = ("core.quotepath=off", "core.fsmonitor=false", "diff.suppressBlankEmpty=false")
_DIFF = (
    *("diff-index", "--cached", "-p", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("-U3", "--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/", "HEAD"),
)
_OF_A_CALLER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_EXTERNAL_DIFF")


@dataclass(frozen=True)
class Source:
    """The state of a source tree.

    Attributes:
        commit: None outside of a repository.
        code: fingerprint of the code, see :func:`code_fingerprint`.
        changed: files of the code that differ from the commit.
        patch: what ``git apply`` adds to the commit, untracked files that git does not ignore among it.
        left_out: what the patch lacks, each with the reason.
    """

    commit: str | None
    code: str
    changed: tuple[str, ...] = ()
    patch: bytes = b""
    left_out: tuple[str, ...] = ()

    @property
    def diff(self) -> str | None:
        """SHA-256 of what differs from the commit; None where nothing does."""
        return _sum(self.patch, *map(os.fsencode, self.left_out)) if self.patch or self.left_out else None

    @property
    def digest(self) -> str:
        """SHA-256 of all of it: equal states are kept once."""
        return _sum((self.commit or "").encode(), self.code.encode(), (self.diff or "").encode())

    def save(self, folder: Path) -> None:
        """Keep the patch below a run's folder, for :func:`read_patch`.

        Raises:
            StorageError: It cannot be written.
        """
        if self.diff is not None:
            write_bytes(_patch_file(folder, self.diff), gzip.compress(self.patch, mtime=0))


def read_patch(folder: Path, diff: str) -> bytes:
    """The patch with this sum that a run kept below its folder; empty if there is none, or it is damaged."""
    try:
        return gzip.decompress(_patch_file(folder, diff).read_bytes())
    except (OSError, EOFError, zlib.error):
        return b""


def _patch_file(folder: Path, diff: str) -> Path:
    return folder / "source" / f"{diff[:16]}.patch.gz"


@cache
def snapshot() -> Source:
    """The source that this process runs, taken at the first call: call it when the code has just been imported."""
    return take(Path(__file__).parents[1])


def take(root: Path) -> Source:
    """The state of the source tree ``root``, the folder that holds the packages. Never raises."""
    code = code_fingerprint(root)
    if not _git(root, "ls-files", "--error-unmatch", "--", f"{PACKAGES[0]}/__init__.py"):
        return Source(None, code)  # a repository around an installed package says nothing about it
    commit = (_git(root, "rev-parse", "HEAD") or b"").decode().strip() or None
    top = Path(os.fsdecode((_git(root, "rev-parse", "--show-toplevel") or b"").rstrip(b"\n")))
    inside = root.resolve().relative_to(top.resolve()).as_posix() if commit else "."
    return _with_changes(top, inside, commit, code) if commit else Source(None, code)


def code_fingerprint(root: Path) -> str:
    """Identity of the code below ``root``, 16 hex digits: names and contents of what makes numbers.

    That is every ``*.py`` of the packages, tracked or not, and the two files that say what they run with. Notes, data,
    results, experiment files and documentation change nothing.
    """
    return _sum(*(part for name in _code_files(root) for part in (os.fsencode(name), _content(root / name))))[:16]


def _code_files(root: Path) -> list[str]:
    found = [name for name in BESIDE if (root / name).is_file()]
    for package in PACKAGES:
        for folder, folders, names in os.walk(root / package):
            folders[:] = [name for name in folders if not name.startswith(".")]
            here = Path(folder).relative_to(root)
            found += [(here / name).as_posix() for name in names if name.endswith(".py")]
    return sorted(found)


def _is_code(name: str) -> bool:
    path = PurePath(name)
    return name in BESIDE or (path.parts[0] in PACKAGES and path.suffix == ".py")


def _with_changes(top: Path, inside: str, commit: str, code: str) -> Source:
    """The source with the patch of the repository ``top``, which has the packages in its folder ``inside``."""
    below = "" if inside == "." else f"{inside}/"
    hidden = [f"{below}{package}/*.py" for package in PACKAGES]  # code counts, even where git ignores it
    asked = (
        _git(top, "diff", "HEAD", "--name-only", "--no-renames", "--ignore-submodules", "-z"),
        _git(top, "ls-files", "--others", "--exclude-standard", "-z"),
        _git(top, "ls-files", "--others", "-z", "--", *hidden),
    )
    names = sorted({os.fsdecode(name) for output in asked if output for name in output.split(b"\0") if name})
    codes = {name for name in names if _is_code(name.removeprefix(below))}
    left_out = {name: reason for name in names if (reason := _unwanted(top, name, name in codes))}
    parts = _parts(top, [name for name in names if name not in left_out])
    if parts is None or None in asked:
        return Source(commit, code, left_out=("all changes: git could not tell them",))
    kept = dict(_kept(parts, codes, left_out))
    patch = b"".join(kept[name] for name in parts if name in kept)
    changed = tuple(_printable(name) for name in names if name in codes and (name in parts or name in left_out))
    return Source(commit, code, changed, patch, _told(left_out))


def _unwanted(top: Path, name: str, is_code: bool) -> str | None:
    """Why a file is not to be kept, by its name and size alone."""
    path = top / name
    if name.endswith("/"):
        return "a repository of its own"
    # "token" and "secret" are words of our field, too: of code, the content decides.
    if has_secret_name(name) and not is_code:
        return "its name says that it holds a secret"
    try:
        if not path.is_symlink() and path.exists():
            if path.stat().st_size > MAX_FILE:
                return f"larger than {MAX_FILE // 2**10} KiB"
            with path.open("rb"):
                pass
    except OSError:
        return "cannot be read"
    return None


def _parts(top: Path, names: list[str]) -> dict[str, bytes] | None:
    """File name -> its part of the patch, in order; None if git fails.

    An index and an object store of our own, thrown away again: nothing is written into the repository.
    """
    objects = os.fsdecode((_git(top, "rev-parse", "--git-path", "objects") or b"").rstrip(b"\n"))
    with tempfile.TemporaryDirectory(prefix="syncvis-") as folder:
        own = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": f"{folder}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{(top / objects).resolve()}"',
        }
        Path(own["GIT_OBJECT_DIRECTORY"]).mkdir()
        listed = b"".join(os.fsencode(name) + b"\0" for name in names)
        filled = (
            _git(top, "read-tree", "HEAD", extra=own),
            _git(top, "update-index", "--add", "--remove", "-z", "--stdin", extra=own, given=listed),
        )
        found, patch = _git(top, *_DIFF, "--name-status", "-z", extra=own), _git(top, *_DIFF, extra=own)
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


def _kept(parts: Mapping[str, bytes], codes: set[str], left_out: dict[str, str]) -> Iterator[tuple[str, bytes]]:
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


def _told(left_out: Mapping[str, str]) -> tuple[str, ...]:
    """A line per file that was left out, or per folder and reason where there are many."""
    lines = [f"{_printable(name)}: {reason}" for name, reason in sorted(left_out.items())]
    if len(lines) > MAX_NAMED:
        groups = Counter((os.path.dirname(name) or ".", reason) for name, reason in left_out.items())
        lines = [f"{_printable(place)}/: {n} files, {reason}" for (place, reason), n in sorted(groups.items())]
    more = [f"and in {len(lines) - MAX_NAMED} more places"] if len(lines) > MAX_NAMED else []
    return (*lines[:MAX_NAMED], *more)


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b"unreadable"


def _sum(*parts: bytes) -> str:
    summed = hashlib.sha256()
    for part in parts:
        summed.update(str(len(part)).encode() + b"\0" + part)
    return summed.hexdigest()


def _git(folder: Path, *words: str, extra: Mapping[str, str] | None = None, given: bytes = b"") -> bytes | None:
    """What git prints; None if it fails or is not there."""
    done = git(folder, *words, extra=extra, given=given)
    return done.stdout if done is not None and done.returncode == 0 else None


def git(
    folder: Path, *words: str, extra: Mapping[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[bytes] | None:
    """Git with these words in a folder, whatever repository a caller's environment names; None if it is not there."""
    around = {name: value for name, value in os.environ.items() if name not in _OF_A_CALLER}
    around |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(extra or {})}
    settings = [word for setting in _PLAIN for word in ("-c", setting)]
    command = ["git", "-C", str(folder), *settings, *words]
    try:
        return subprocess.run(command, input=given, capture_output=True, check=False, env=around, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
