"""What a method promises: encode frames, decode clips, losses for training, a stream of a video for inference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from syncvis.errors import ConfigError
from syncvis.losses.views import Points
from syncvis.online.stream import Stream
from syncvis.outputs import ClipFeatures, ClipOutput
from syncvis.structures import ClipBatch

MASKED_PARTS: Mapping[str, str] = {
    "backbone": r"backbone\.",
    "pixel decoder": r"pixel_decoder\.",
    "exchange attention": r".*\bsync\..*\battention\.",
    "exchange FFN": r".*\bsync\..*\bffn\.",
    "heads": r".*\bheads\.",
    "frame queries": r".*\bquery_sets\.frame\.",
    "video queries": r".*\bquery_sets?\.",
    "decoder layers": r"decoder\.",
}
"""Rows of the dry run for what is built on Mask2Former's blocks."""


class Method(nn.Module, ABC):
    """The interface of a video instance segmentation method; its code keeps frozen parts frozen.

    A class and not a Protocol only because a method is also an ``nn.Module``, and types cannot say both.

    Attributes:
        trained: top-level children that learn in this stage of a training; None: all.
        fresh: beginnings of names (``"temporal.memory"``) of what may start fresh although weights bring the rest of
            its top-level child. An exchange and class heads of other classes may without being named.
        parts: rows of the dry run -> beginnings of parameters' names, as regular expressions; the first that matches
            counts, and what none matches is counted at its top-level child.
    """

    trained: tuple[str, ...] | None = None
    fresh: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def encode(self, images: Tensor, valid: Tensor) -> ClipFeatures:
        """images (B, T, 3, H, W) in [0, 1], valid (B, T, H, W) -> features. Frames do not see each other here."""

    def encode_batch(self, batch: ClipBatch) -> ClipFeatures:
        """Features of a batch, for training and inference; where some are kept, they are not computed again."""
        return self.encode(batch.images, batch.valid)

    @abstractmethod
    def decode(self, features: ClipFeatures) -> ClipOutput:
        """Features of a clip -> every prediction that training supervises."""

    def decode_video(self, features: ClipFeatures) -> ClipOutput:
        """Features of a whole video -> what is predicted at test time, by a method that decodes it at once."""
        return self.decode(features)

    @abstractmethod
    def losses(self, batch: ClipBatch, points: Points | None = None, progress: float = 1.0) -> dict[str, Tensor]:
        """Weighted training losses of a batch with targets, ``<window>/layer<i>/<term>``; their sum is minimised.

        Args:
            points: given ones, instead of drawing them.
            progress: share of the training that is done, in [0, 1).
        """

    @abstractmethod
    def stream(self, stored: torch.dtype | None = None) -> Stream:
        """What finds the tracks of one video; each video has a new one, so nothing is left from the one before.

        Args:
            stored: type that features are rounded to while they wait for the last frame; None: they stay as they are.
        """

    def read_classes(self, names: Sequence[str]) -> None:
        """Before a training: take what the method's files say of the classes, in the order of the class head.

        Most methods know classes by number only. A finished run does not ask again: what was read is in its weights.

        Raises:
            WorkbenchError: A file is missing, damaged, or does not know a class.
        """

    def learn_only(self, names: Sequence[str]) -> None:
        """Freeze all top-level children but these: no gradient, and evaluation mode also while the others train.

        What is frozen inside of these stays so.

        Raises:
            ConfigError: There is no such child with parameters, or nothing in them has a gradient.
        """
        children = list(dict.fromkeys(name.split(".")[0] for name, _ in self.named_parameters()))
        unknown = [name for name in names if name not in children]
        if unknown:
            problem = f"the model has no part {', '.join(unknown)}"
            raise ConfigError(problem, key="train.trained", fix=f"choose from {', '.join(children)}")
        for name, parameter in self.named_parameters():
            if name.split(".")[0] not in names:
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            problem = f"nothing in {', '.join(names)} learns"
            raise ConfigError(problem, key="train.trained", fix="add a part, or lower model.backbone.freeze_at")
        self.trained = tuple(names)
        self.train(self.training)

    def is_frozen(self, name: str) -> bool:
        """Whether a top-level child has parameters, and none of them learns in this stage."""
        frozen = self.trained is not None and name not in self.trained
        return frozen and next(self.get_submodule(name).parameters(), None) is not None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the children that learn; frozen ones stay in evaluation mode.

        So a frozen part has no dropout and no drop path, and its norms use their stored statistics. (The released
        GenVIS leaves its frozen detector in training mode, where Swin's drop path stays random.)
        """
        super().train(mode)
        for name, child in self.named_children():
            if self.is_frozen(name):
                child.eval()
        return self
