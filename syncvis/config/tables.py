"""Names that a config may give, and what they stand for: functions as ``module:function``, so that none is imported.

A new strategy or window set is one function and one line here; settings, their errors and the tests take the names from
these tables. The methods have their table in :mod:`syncvis.config.methods`.
"""

from __future__ import annotations

from typing import Literal

AGGREGATIONS = {
    "class_prediction": "syncvis.sync.aggregation:class_prediction",
    "query_similarity": "syncvis.sync.aggregation:query_similarity",
    "mask_similarity": "syncvis.sync.aggregation:mask_similarity",
}
"""Which queries of one level the other level reads; the contract is in :mod:`syncvis.sync.aggregation`."""

WINDOWS = {
    "neighbours": "syncvis.sync.subclips:neighbours",
    "all_pairs": "syncvis.sync.subclips:all_pairs",
    "chunks": "syncvis.sync.subclips:chunks",
    "strided": "syncvis.sync.subclips:strided",
}
"""Which frames of a clip are its sub-clips; the contract is in :mod:`syncvis.sync.subclips`."""

STRUCTURES: dict[str, tuple[Literal["frame", "video"], ...]] = {
    "synchronous": ("frame", "video"),
    "cascade": ("frame", "video"),
    "frame_only": ("frame",),
    "video_only": ("video",),
}
"""Arrangement of Mask2Former-VIS' query sets -> the levels that predict (paper Table 6)."""

OWN_CODE = ("method.name", "sync.aggregation", "subclips.windows")
"""Keys of a run config at which ``module:function`` of one's own may stand."""
