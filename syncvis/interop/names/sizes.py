"""Sizes of a published model, read off the shapes of its tensors (our names)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from syncvis.config import ResNetConfig, SwinConfig
from syncvis.errors import StorageError
from syncvis.interop.backbones import describe, infer_backbone


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a file tell.

    Attributes:
        tensors: by our name.
        kind: of the file, for messages.
    """

    tensors: Mapping[str, Tensor]
    kind: str

    def size(self, name: str, axis: int = 0) -> int:
        """Length of a tensor along an axis.

        Raises:
            StorageError: There is no such tensor, or it has fewer axes.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.ndim <= axis:
            raise StorageError(f"has no {name} that tells a size", file=self.kind, fix="give a whole model")
        return tensor.shape[axis]

    def layers(self, prefix: str) -> int:
        """How many there are: one more than the largest number after ``prefix``."""
        numbers = [name.removeprefix(prefix).split(".")[0] for name in self.tensors if name.startswith(prefix)]
        return max((int(number) + 1 for number in numbers), default=0)

    def backbone(self) -> ResNetConfig | SwinConfig:
        """The backbone's config.

        Raises:
            StorageError: It is no ResNet or Swin.
        """
        found = infer_backbone(self.tensors)
        if found is None:
            raise StorageError(f"holds {describe(found)}", file=self.kind, fix="give a ResNet or a Swin")
        return found
