"""Published names of CTVIS -> ours: a Mask2Former with a head more. Source: CTVIS (modeling/transformer_decoder/)."""

from __future__ import annotations

from typing import Any

from syncvis.interop.names.mask2former import model_entries
from syncvis.interop.names.naming import Family, Naming
from syncvis.interop.names.sizes import Sizes
from syncvis.structures import Level

_HEAD = r"^sem_seg_head\.predictor\.reid_embed\.layers\."

REID_HEAD = Naming(
    title="CTVIS' head for re-identification",
    marker=r"^sem_seg_head\.predictor\.reid_embed\.",
    prefix="reid.",
    rules=((f"{_HEAD}0", "0"), (f"{_HEAD}1", "2"), (f"{_HEAD}2", "4")),
)


def entries(sizes: Sizes, level: Level, heads: int, points: int) -> dict[str, Any]:
    """CTVIS as published: frame queries only, and the losses of its own code."""
    return {
        "model": model_entries(sizes, heads, points),
        "method": {"name": "ctvis", "compat": True},
        "sync": None,
        "subclips": None,
    }


FAMILY = Family("CTVIS", additions=(REID_HEAD,), entries=entries)
