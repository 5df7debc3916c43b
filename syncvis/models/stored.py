"""Features of a video as they wait for its last frame: in parts, the mask features in the host's memory.

Letters as in :mod:`syncvis.structures`; a video is a batch of one, and a part of it has t frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from syncvis.errors import ConfigError
from syncvis.outputs import ClipFeatures, LevelOutput


def waiting(mask: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
    """Mask features (1, t, C, h, w) -> t of (C, h, w) in the host's memory.

    Args:
        dtype: what they are rounded to; None: they stay as they are.

    Raises:
        ConfigError: A number is too large for ``dtype``.
    """
    return list(_rounded(mask[0], dtype).cpu())


def _rounded(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """In another type; None leaves it.

    Raises:
        ConfigError: A number is too large for the type.
    """
    if dtype is None or x.dtype == dtype:
        return x
    if x.abs().max() > torch.finfo(dtype).max:
        problem = f"features of this model do not fit {str(dtype).removeprefix('torch.')}"
        raise ConfigError(problem, key="eval.features", fix="set eval.features=full")
    return x.to(dtype)


def joined(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """The frames of all parts of a video."""
    return list(chain.from_iterable(parts))


@dataclass(frozen=True)
class StoredFrames:
    """What the layers of a query decoder read of t frames.

    Attributes:
        levels: maps, coarse to fine, each (1, t, C, h, w), on the device that decodes.
        guides: like ``levels``. The finest one, a fifth of the memory, is left out where ``mask`` is at hand to make
            it of.
        mask: t of (C, h, w), those of the queries that have the tubes.
        dtype: what decoding computes in.
    """

    levels: tuple[Tensor, ...]
    guides: tuple[Tensor, ...]
    mask: list[Tensor]
    dtype: torch.dtype

    @classmethod
    def of(cls, features: ClipFeatures, dtype: torch.dtype | None = None, clip: bool = False) -> StoredFrames:
        """The features of a batch of one.

        Args:
            dtype: what they are rounded to; None: they stay as they are.
            clip: keep ``clip_mask`` in place of ``mask``.
        """
        mask = features.clip_mask if clip else features.mask
        assert mask is not None
        again = not clip and mask.device.type == "cpu"
        return cls(
            tuple(_rounded(x, dtype) for x in features.levels),
            tuple(_rounded(x, dtype) for x in (features.guides[:-1] if again else features.guides)),
            waiting(mask, dtype),
            mask.dtype,
        )

    @property
    def num_frames(self) -> int:
        return self.levels[-1].shape[1]

    def level(self, scale: int) -> Tensor:
        """The feature map of a scale, (1, t, C, h, w)."""
        return self.levels[scale].to(self.dtype)

    def guide(self, scale: int) -> Tensor:
        """The mask features at the size of a scale, (1, t, C, h, w)."""
        if scale < len(self.guides):
            return self.guides[scale].to(self.dtype)
        size = self.levels[scale].shape[-2:]
        frames = (x[None].to(self.dtype) for x in self.mask)
        return torch.cat([F.interpolate(x, size, mode="bilinear", align_corners=False) for x in frames])[None]


@dataclass(frozen=True)
class FinishedFrames:
    """What is left of t frames when later queries read finished frame queries and no pixel.

    Attributes:
        embeddings: (1, t, Qf, C) normalised frame queries after the last layer.
        mask: t of (C, h, w), those of the later queries.
    """

    embeddings: Tensor
    mask: list[Tensor]

    @classmethod
    def of(cls, output: LevelOutput | None, mask: Tensor, dtype: torch.dtype | None = None) -> FinishedFrames:
        """Of the last prediction of frame queries, and mask features (1, t, C, h, w) that are stored as ``dtype``."""
        assert output is not None
        return cls(output.embeddings, waiting(mask, dtype))
