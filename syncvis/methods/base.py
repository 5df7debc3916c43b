"""What a method promises: encode frames, decode clips, losses for training, a stream of a video for inference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from syncvis.losses.views import Points
from syncvis.online.stream import Stream
from syncvis.outputs import ClipFeatures, ClipOutput
from syncvis.structures import ClipBatch


class Method(nn.Module, ABC):
    """The interface of a video instance segmentation method.

    A class and not a Protocol only because a method is also an ``nn.Module``, and types cannot say both.

    Attributes:
        parts: rows of the dry run, each with the pattern that the names of its parameters begin with.
    """

    parts: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        """images (B, T, 3, H, W) in [0, 1], valid (B, T, H, W) -> features. Frames do not see each other here."""

    @abstractmethod
    def decode(self, features: ClipFeatures) -> ClipOutput:
        """Features of a clip -> every prediction that training supervises."""

    @abstractmethod
    def losses(self, batch: ClipBatch, points: Points | None = None, progress: float = 1.0) -> dict[str, Tensor]:
        """Weighted training losses of a batch with targets, ``<window>/layer<i>/<term>``; their sum is minimised.

        Args:
            points: given ones, instead of drawing them.
            progress: share of the training that is done, in [0, 1).
        """

    @abstractmethod
    def stream(self) -> Stream:
        """What finds the tracks of one video; each video has a new one, so nothing is left from the one before."""
