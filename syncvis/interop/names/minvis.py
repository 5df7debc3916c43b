"""What is published of MinVIS: a Mask2Former, whose names its files have (minvis/video_maskformer_model.py)."""

from __future__ import annotations

from typing import Any

from syncvis.interop.names.mask2former import model_entries
from syncvis.interop.names.naming import Family
from syncvis.interop.names.sizes import Sizes
from syncvis.structures import Level


def entries(sizes: Sizes, level: Level, heads: int, points: int) -> dict[str, Any]:
    """Frame queries alone, whatever the level asked for."""
    return {
        "model": model_entries(sizes, heads, points),
        "method": {"name": "minvis"},
        "sync": None,
        "subclips": None,
    }


FAMILY = Family("MinVIS", entries=entries)
