"""Pictures and tables of a finished trial as W&B shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

IDENTITY = ("switches", "purity", "coverage", "lost")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile)


def pictures(wandb: Any, folder: Path) -> list[Any]:
    """One ``wandb.Image`` per video of a run's ``overlays`` folder; none if this machine cannot see it.

    Where label maps lie beside the picture (``<video>.npz``: frame, truth, prediction and their names), it is a frame
    with both as masks to be switched on and off; otherwise the drawn picture. One that is damaged is left out.
    """
    names = sorted({path.stem for path in folder.glob("*.*") if path.suffix in (".png", ".npz")})
    found = (_masked(wandb, folder / f"{name}.npz") or _drawn(wandb, folder / f"{name}.png") for name in names)
    return [picture for picture in found if picture is not None]


def _masked(wandb: Any, path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as stored:
            masks = {kind: _mask(stored[kind], stored[f"{kind}_names"]) for kind in ("truth", "prediction")}
            return wandb.Image(stored["frame"], caption=path.stem, masks=masks)
    except _UNREADABLE:
        return None


def _mask(labels: Any, names: Any) -> dict[str, Any]:
    """Label n, from 1, is the n-th name."""
    classes = {0: "nothing", **dict(enumerate(map(str, names.tolist()), 1))}
    return {"mask_data": labels, "class_labels": classes}


def _drawn(wandb: Any, path: Path) -> Any:
    try:
        return wandb.Image(str(path), caption=path.stem)
    except _UNREADABLE:
        return None


def video_table(wandb: Any, result: Mapping[str, Any]) -> Any:
    """AP of every video, beside how its tracks were confused if the result says so; None without videos."""
    per_video: Mapping[str, Any] = result.get("per_video") or {}
    identities: Mapping[str, Mapping[str, Any]] = result.get("per_video_tracking") or {}
    videos = sorted({*per_video, *identities}, key=lambda name: (not name.isdigit(), len(name), name))
    if not videos:
        return None
    columns = ["video", "AP", *(IDENTITY if identities else ())]
    rows = [[v, per_video.get(v), *(identities.get(v, {}).get(name) for name in columns[2:])] for v in videos]
    return wandb.Table(columns=columns, data=[[_finite(value) for value in row] for row in rows])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
