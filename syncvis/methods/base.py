"""What a method promises: encode once, decode many."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from syncvis.structures import ClipBatch, ClipFeatures, ClipOutput


class Method(Protocol):
    """A video instance segmentation method, an ``nn.Module``."""

    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        """images (B, T, 3, H, W) in [0, 1], valid (B, T, H, W) -> features. Frames do not see each other here."""
        ...

    def decode(self, features: ClipFeatures, memory: Tensor | None = None) -> tuple[ClipOutput, Tensor | None]:
        """Features of a clip and what earlier clips left behind -> predictions and what to hand to the next clip."""
        ...

    def losses(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Named, weighted training losses of a batch with targets; their sum is minimised."""
        ...
