"""What a method promises: encode once, decode many."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from syncvis.structures import ClipBatch, ClipFeatures, ClipOutput


class Method(nn.Module, ABC):
    """The interface of a video instance segmentation method; it holds no code.

    A class and not a Protocol only because a method is also an ``nn.Module``, and types cannot say both.
    """

    @abstractmethod
    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        """images (B, T, 3, H, W) in [0, 1], valid (B, T, H, W) -> features. Frames do not see each other here."""

    @abstractmethod
    def decode(self, features: ClipFeatures, memory: Tensor | None = None) -> tuple[ClipOutput, Tensor | None]:
        """Features of a clip and what earlier clips left behind -> predictions and what to hand to the next clip."""

    @abstractmethod
    def losses(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Named, weighted training losses of a batch with targets; their sum is minimised."""
