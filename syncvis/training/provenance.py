"""Where a number comes from: source, versions, hardware and command, without names of people, hosts and folders."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from syncvis.distributed import world_size
from syncvis.training.command import public_command
from syncvis.training.runtime import Runtime

PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "pycocotools", "pillow", "av", "safetensors", "pydantic"),
    *("optuna", "sqlalchemy", "wandb", "pandas", "detectron2"),
)
MAX_CONTENT = 16 * 2**20
"""Bytes of an untracked file up to which its content counts; of a larger one, its size does."""


def provenance(runtime: Runtime, device: torch.device) -> dict[str, Any]:
    """``commit``, ``dirty``, ``diff``, ``command`` and ``environment`` of this process, as :class:`RunResult` has them.

    Nothing in it names the host, a user, a folder outside the source or a secret.
    """
    commit, diff = source_state(Path(__file__))
    return {
        "commit": commit,
        "dirty": diff is not None,
        "diff": diff,
        "command": public_command(sys.argv),
        "environment": environment(runtime, device),
    }


def environment(runtime: Runtime, device: torch.device) -> dict[str, str]:
    """Versions and hardware that a number may depend on: equal for all runs that were made alike."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        **_accelerator(device),
        "threads": str(runtime.threads),
        "processes": str(world_size()),
        "deterministic": str(runtime.deterministic).lower(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def source_state(file: Path) -> tuple[str | None, str | None]:
    """Commit of the source tree that a file is tracked in, and a SHA-256 of all that differs from it.

    That is the changes of tracked files, and names and contents of untracked ones that git does not ignore. The commit
    is None outside of a repository, the sum where nothing differs.
    """
    if not _git(file.parent, "ls-files", "--error-unmatch", file.name):
        return None, None  # a repository around an installed package says nothing about it
    root = Path(os.fsdecode(_git(file.parent, "rev-parse", "--show-toplevel").strip()))
    changes = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color", "--no-textconv")
    untracked = [name for name in _git(root, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0") if name]
    commit = _git(root, "rev-parse", "HEAD").decode().strip() or None
    if not changes and not untracked:
        return commit, None
    summed = hashlib.sha256(changes)
    for name in sorted(untracked):
        summed.update(b"\0" + name + b"\0" + _content(root / os.fsdecode(name)))
    return commit, summed.hexdigest()


def _git(folder: Path, *words: str) -> bytes:
    """What git prints; nothing if it fails or is not there."""
    command = ["git", "-C", str(folder), "-c", "core.quotepath=off", *words]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})
    except OSError:
        return b""
    return done.stdout if done.returncode == 0 else b""


def _content(path: Path) -> bytes:
    """A digest of a file, of the target of a link."""
    try:
        if path.is_symlink():
            return hashlib.sha256(os.fsencode(os.readlink(path))).digest()
        size = path.stat().st_size
        return str(size).encode() if size > MAX_CONTENT else hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b"unreadable"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    return _first(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)") or platform.processor() or "unknown"


def _accelerator(device: torch.device) -> dict[str, str]:
    """``device``, and of a GPU the versions of driver, CUDA and cuDNN."""
    if device.type != "cuda":
        return {"device": platform.processor() or "cpu"}
    return {
        "device": torch.cuda.get_device_name(device),
        "driver": _first(Path("/proc/driver/nvidia/version"), r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s") or "unknown",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


def _first(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1].strip() if found else None
