"""The state of a source tree: its commit, the fingerprint of its code, and what differs from the commit."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePath

from syncvis.files import write_bytes
from syncvis.source.changes import changes, printable
from syncvis.source.plugins import FOLDER, files_in, files_of, parts_of, sums
from syncvis.source.repository import output

PACKAGES = ("syncvis", "sweeps", "analysis")
BESIDE = ("pyproject.toml", "constraints.txt")
"""Files beside the packages that say what they run with."""


@dataclass(frozen=True)
class Source:
    """The state of a source tree.

    Attributes:
        commit: None outside of a repository.
        code: fingerprint of the code, see :func:`code_fingerprint`.
        changed: files of the code that differ from the commit.
        patch: what ``git apply`` adds to the commit, untracked files that git does not ignore among it.
        left_out: what the patch lacks, each with the reason.
        plugins: file -> SHA-256, of the modules of one's own that the run used; they are in the patch, among the
            changed files and in the fingerprint.
    """

    commit: str | None
    code: str
    changed: tuple[str, ...] = ()
    patch: bytes = b""
    left_out: tuple[str, ...] = ()
    plugins: Mapping[str, str] = field(default_factory=dict)

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


def snapshot(plugins: Iterable[str] = ()) -> Source:
    """The source that this process runs, with that of some modules of one's own.

    Each part is taken at the first call that names it: call it when the code has just been imported.
    """
    files: dict[str, bytes] = {}
    for module in plugins:
        files |= {} if module.split(".")[0] in PACKAGES else files_of(module)
    return with_plugins(_own(), files) if files else _own()


@cache
def _own() -> Source:
    return take(Path(__file__).parents[2])


def with_plugins(source: Source, files: Mapping[str, bytes]) -> Source:
    """A source tree and the files of modules of one's own, named as in :func:`syncvis.source.plugins.files_of`."""
    added, left_out = parts_of(files)
    return replace(
        source,
        code=_joined(source.code, files),
        changed=(*source.changed, *(f"{FOLDER}/{name}" for name in sorted(files))),
        patch=source.patch + added,
        left_out=(*source.left_out, *left_out),
        plugins=sums(files),
    )


def take(root: Path) -> Source:
    """The state of the source tree ``root``, the folder that holds the packages. Never raises."""
    code = code_fingerprint(root)
    if not output(root, "ls-files", "--error-unmatch", "--", f"{PACKAGES[0]}/__init__.py"):
        return Source(None, code)  # a repository around an installed package says nothing about it
    commit, top, below = (
        _line(output(root, "rev-parse", word)) for word in ("HEAD", "--show-toplevel", "--show-prefix")
    )
    if not commit or not top:
        return Source(None, code)

    def is_code(name: str) -> bool:
        return name.startswith(below) and _is_code(name.removeprefix(below))

    hidden = [f"{below}{package}/*.py" for package in PACKAGES]  # code counts, even where git ignores it
    try:
        found = changes(Path(top), hidden, is_code)
    except OSError as error:  # a full disk, a folder that goes away
        return Source(commit, code, left_out=(f"all changes: {error.strerror}",))
    changed = [printable(name) for name in sorted(found.files) if is_code(name)]
    return Source(commit, code, tuple(changed), found.patch, found.left_out)


def _line(text: bytes | None) -> str:
    return os.fsdecode((text or b"").rstrip(b"\n"))


def code_fingerprint(root: Path) -> str:
    """Identity of the code below ``root``, 16 hex digits: names and contents of what makes numbers.

    That is every ``*.py`` of the packages, tracked or not, and the two files that say what they run with. Notes, data,
    results, experiment files and documentation change nothing.
    """
    return _sum(*(part for name in _code_files(root) for part in (os.fsencode(name), _content(root / name))))[:16]


def restored_fingerprint(root: Path) -> str:
    """The same of a tree to which a patch was applied: with the modules of one's own that it brought."""
    files = files_in(root)
    return _joined(code_fingerprint(root), files) if files else code_fingerprint(root)


def _joined(code: str, files: Mapping[str, bytes]) -> str:
    return _sum(code.encode(), *(part for name in sorted(files) for part in (name.encode(), files[name])))[:16]


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
