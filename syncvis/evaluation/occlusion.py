"""How much the instances of a video hide each other, measured on their boxes.

The bounding-box overlap rate of a frame is the area covered by two or more boxes over the area covered by any (Qi et
al., Occluded Video Instance Segmentation, IJCV 2022); a video has the mean over its frames with an instance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Upper bounds of the levels.
LEVELS = {"none": 0.0, "slight": 0.1, "medium": 0.3, "heavy": 1.0}


def level(rate: float) -> str:
    """The name of a rate's level in :data:`LEVELS`."""
    return next(name for name, most in LEVELS.items() if rate <= most)


def overlap_rate(found: NDArray[np.int64]) -> float:
    """Mean overlap rate of a video; 0 if no frame has an instance.

    Args:
        found: (N, T, 4) boxes, as :attr:`syncvis.evaluation.tubes.Tube.boxes` gives them.
    """
    rates = [_frame_rate(frame[frame[:, 2] > frame[:, 0]]) for frame in found.transpose(1, 0, 2)]
    seen = [rate for rate in rates if rate is not None]
    return float(np.mean(seen)) if seen else 0.0


def _frame_rate(frame: NDArray[np.int64]) -> float | None:
    """Of the (n, 4) boxes of a frame, on the grid of their edges; None without a box."""
    if len(frame) < 2:
        return 0.0 if len(frame) else None
    x, y = np.unique(frame[:, 0::2]), np.unique(frame[:, 1::2])
    columns = (frame[:, 0:1] <= x[:-1]) & (x[:-1] < frame[:, 2:3])
    rows = (frame[:, 1:2] <= y[:-1]) & (y[:-1] < frame[:, 3:4])
    covers = np.einsum("nx,ny->xy", columns.astype(int), rows.astype(int))
    cells = np.diff(x)[:, None] * np.diff(y)[None, :]
    return float(cells[covers > 1].sum() / cells[covers > 0].sum())
