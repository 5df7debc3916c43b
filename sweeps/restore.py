"""The source that a run used, back in a folder: its commit as a worktree of git, and the changes that were kept."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sweeps.database import Row
from sweeps.sources import sources_of
from sweeps.view import View
from syncvis.errors import ConfigError, StorageError
from syncvis.source import PACKAGES, PLUGIN_FOLDER, Source, git, read_patch, restored_fingerprint

MARK = f"{PACKAGES[0]}/__init__.py"
"""A file that every source tree of ours has."""


@dataclass(frozen=True)
class Restored:
    """A source tree in a folder.

    Attributes:
        root: the folder of the packages in it.
        code: its fingerprint, see :func:`syncvis.source.restored_fingerprint`.
    """

    root: Path
    code: str

    @property
    def path(self) -> str:
        """What PYTHONPATH has to name: the packages, and the folder of plug-ins if there is one."""
        plugins = self.root / PLUGIN_FOLDER
        return os.pathsep.join(map(str, [self.root, *[plugins] * plugins.is_dir()]))


def source_of_trial(view: View, row: Row, attempt: int | None = None) -> Source:
    """The source of an attempt of a trial (a row of :meth:`View.cell`); of its last one if none is named.

    Raises:
        ConfigError: There was no such attempt.
        StorageError: What it ran was not kept.
    """
    name, last = f"trial {row['number']}", row["attempt"]
    wanted = last if attempt is None else attempt
    if not 1 <= wanted <= last:
        fix = f"take one of 1 to {last}" if last else "wait until it runs"
        raise ConfigError(f"has no attempt {wanted}" if last else "has not run yet", file=view.place, key=name, fix=fix)
    kept = sources_of(view, row["cell_hash"]).get(wanted)
    result = (view.results([row["cell_hash"]]).get(row["cell_hash"]) if wanted == last else None) or {}
    if kept is None:
        return _of_result(result, view.place, name)
    if result.get("source") not in (None, kept.code):
        problem = f"trained source {result['source']}, but {kept.code} was kept: files changed while it started"
        raise StorageError(problem, file=view.place, key=name, fix=f"look for it near commit {kept.commit}")
    return kept


def source_of_folder(folder: Path) -> Source:
    """The source of a finished run of ``syncvis train``, from its folder.

    Raises:
        StorageError: It holds no finished run, or what that ran was not kept.
    """
    path, fix = folder / "result.json", "give the number of a trial, or the folder of a finished run"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"cannot be read ({getattr(error, 'strerror', None) or error})", file=path, fix=fix
        ) from None
    if not isinstance(result, dict):
        raise StorageError("is not the result of a run", file=path, fix=fix)
    if result.get("source") and result.get("diff"):
        names = (result.get("changed") or [], result.get("left_out") or [])
        patch = read_patch(folder, result["diff"])
        found = Source(result.get("commit"), result["source"], tuple(names[0]), patch, tuple(names[1]))
        if found.diff == result["diff"]:
            return found
    return _of_result(result, str(folder), "result.json")


def _of_result(result: Row, place: str, name: str) -> Source:
    """The source of a record beside which nothing is kept: its commit, if that is all there was."""
    commit = result.get("commit")
    if commit and result.get("diff") is None and not result.get("dirty"):
        return Source(commit, result.get("source") or "")
    if commit:
        problem, fix = (
            "its uncommitted changes were not kept",
            f"git worktree add FOLDER {commit} gives the commit alone",
        )
    else:
        problem, fix = "its source was not kept", "run it again with this version, which keeps it"
    raise StorageError(problem, file=place, key=name, fix=fix)


def restore(source: Source, folder: Path, repository: Path) -> Restored:
    """Make ``folder`` a worktree with this source, beside the repository's own, which is not touched.

    Args:
        repository: A folder in a clone of ours.

    Raises:
        ConfigError: The folder exists.
        StorageError: The repository is not ours or lacks the commit, or git refuses.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigError("exists already", file=folder, fix="give a folder that does not exist yet")
    if source.commit is None:
        raise StorageError(
            "it ran outside of a repository, so there is no commit", key="commit", fix="nothing to do here"
        )
    inside = _place_in(repository)
    if _git(repository, "cat-file", "-e", f"{source.commit}^{{commit}}"):
        fix = "git fetch it, or give --repository a clone that has it"
        raise StorageError(f"has no commit {source.commit}", file=repository, fix=fix)
    here = folder.absolute()
    _require(
        _git(repository, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(here), source.commit)
    )
    if source.patch:
        problem = _git(here, "apply", "--whitespace=nowarn", "-", given=source.patch)
        if problem:
            _git(repository, "worktree", "remove", "--force", str(here))
            _require(f"the kept changes do not fit the commit: {problem}")
    root = here / inside
    return Restored(root, restored_fingerprint(root))


def is_ours(repository: Path) -> bool:
    """Whether a folder is a source tree of ours that git tracks."""
    return not _git(repository, "ls-files", "--error-unmatch", "--", MARK)


def _place_in(repository: Path) -> str:
    """Where in its repository our source is, as ``git`` has it: "" for the top.

    Raises:
        StorageError: It is no repository, or not one of ours.
    """
    done = git(repository, "rev-parse", "--show-prefix")
    if done is None or done.returncode or not is_ours(repository):
        fix = "run it in a clone of syncvis, or give one with --repository"
        raise StorageError(f"is not a repository of {PACKAGES[0]}", file=repository, fix=fix)
    return done.stdout.decode().strip()


def _git(folder: Path, *words: str, given: bytes = b"") -> str:
    """What git complained of; nothing if it went well."""
    done = git(folder, *words, given=given)
    if done is None:
        return "git is not installed, or did not end"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (lines[-1] if lines else f"git ended with {done.returncode}") if done.returncode else ""


def _require(problem: str) -> None:
    if problem:
        raise StorageError(problem, key="git", fix="mend what it says and run the same command again")
