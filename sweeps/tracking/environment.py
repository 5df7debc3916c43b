"""Where wandb keeps its files, and what it may see of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Mode = Literal["offline", "online", "disabled"]
PROJECT = "syncvis"
LOG = "mirror.log"
# Who uploads and whereto; anything else (WANDB_RUN_ID, WANDB_RESUME, ...) belongs to other runs of the user.
_KEPT = ("API_KEY", "BASE_URL", "ENTITY", "PROJECT", "IDENTITY_TOKEN_FILE")
_PLACES = {"CACHE_DIR": "cache", "DATA_DIR": "data", "ARTIFACT_DIR": "artifacts"}


def wandb_environment(folder: Path, mode: Mode, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process that uses wandb: its files lie in ``folder``, and it does not report home."""
    kept = {f"WANDB_{name}" for name in _KEPT}
    own = {name: value for name, value in environ.items() if not name.startswith("WANDB_") or name in kept}
    # Online, the user's own folder holds the server's address.
    places = _PLACES if mode == "online" else {**_PLACES, "CONFIG_DIR": "config"}
    local = folder.resolve() / ".local"
    own |= {f"WANDB_{name}": str(local / place) for name, place in places.items()}
    return {**own, "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


def project() -> str:
    return os.environ.get("WANDB_PROJECT") or PROJECT
