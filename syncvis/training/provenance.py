"""Where a number comes from: source, versions, hardware and command, without names of people, hosts and folders."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from syncvis.distributed import world_size
from syncvis.source import snapshot
from syncvis.training.command import public_command
from syncvis.training.runtime import Runtime

PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "pycocotools", "pillow", "av", "safetensors", "pydantic"),
    *("optuna", "sqlalchemy", "wandb", "pandas", "detectron2"),
)


def provenance(runtime: Runtime, device: torch.device, plugins: Iterable[str] = ()) -> dict[str, Any]:
    """Source, ``command`` and ``environment`` of this process, as :class:`RunResult` has them.

    Nothing in it names the host, a user, a folder outside the source or a secret.

    Args:
        plugins: modules of one's own that the run uses.
    """
    source = snapshot(plugins)
    return {
        "commit": source.commit,
        "dirty": source.diff is not None,
        "diff": source.diff,
        "source": source.code,
        "changed": list(source.changed),
        "left_out": list(source.left_out),
        "plugins": dict(source.plugins),
        "workbench": snapshot().code,
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
        "loader_workers": str(runtime.loader_workers),
        "checkpoint_activations": str(runtime.checkpoint_activations).lower(),
        "deterministic": str(runtime.deterministic).lower(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


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
