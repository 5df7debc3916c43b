"""The types that travel through the workbench, and the only place where layouts are folded, unfolded and cut.

Letters, used everywhere:

    B clips        T frames            N = B*T folded     Q queries (Qf frame, Qv video)
    C channels     K classes           L decoder layers   G ground-truth instances
    W windows      H, W pixels         h, w feature cells

A mask of "logits" is before the sigmoid. Class logits have K + 1 entries, the last one is "no object".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from syncvis.predictions import RLE as RLE
from syncvis.predictions import Track as Track
from syncvis.predictions import VideoPrediction as VideoPrediction
from syncvis.transfer import frame_index, to_device, to_host

Level = Literal["frame", "video"]
Frames = tuple[int, ...]


def fold(x: Tensor) -> Tensor:
    """(B, T, ...) -> (B*T, ...)."""
    return x.flatten(0, 1)


def unfold(x: Tensor, num_frames: int) -> Tensor:
    """(B*T, ...) -> (B, T, ...)."""
    return x.unflatten(0, (-1, num_frames))


@dataclass(frozen=True)
class Window:
    """Some frames of a clip on which matching and losses run, with the weight of their loss.

    The whole clip is the window of all frames with weight 1; a sub-clip is any other one.
    """

    name: str
    frames: Frames
    weight: float = 1.0

    @classmethod
    def whole(cls, num_frames: int) -> Window:
        return cls("clip", tuple(range(num_frames)))


@dataclass(frozen=True)
class ClipTarget:
    """The instances of one clip.

    Attributes:
        labels: (G,) int64 class of each instance, 0 .. K-1, taken from the track: it holds in every frame.
        ids: (G,) int64 track id.
        masks: (G, T, H, W) bool, empty in frames where the instance is absent.
    """

    labels: Tensor
    ids: Tensor
    masks: Tensor

    @cached_property
    def present(self) -> Tensor:
        """(G, T) bool: whether the instance has a pixel in that frame."""
        return self.masks.flatten(2).any(-1)

    def to(self, device: torch.device) -> ClipTarget:
        return self._changed(lambda x: _moved(x, device))

    def window(self, frames: Frames) -> ClipTarget:
        """The same instances, seen in some frames only."""
        return replace(self, masks=self.masks[:, frame_index(frames, self.masks.device)])

    def pin_memory(self) -> ClipTarget:
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> ClipTarget:
        return ClipTarget(change(self.labels), change(self.ids), change(self.masks))


def _shown(targets: Sequence[ClipTarget]) -> tuple[ClipTarget, ...]:
    """Without the instances that no frame shows."""
    shown = to_host([t.present.any(1) for t in targets])
    rows = to_device([x.nonzero().flatten() for x in shown], targets[0].masks.device) if targets else []
    return tuple(ClipTarget(t.labels[i], t.ids[i], t.masks[i]) for t, i in zip(targets, rows, strict=True))


@dataclass(frozen=True)
class PaddedTargets:
    """The targets of B clips in common tensors; rows beyond a clip's own instances are present nowhere.

    Attributes:
        labels: (B, G) int64.
        masks: (B, G, T, H, W) bool.
        present: (B, G, T) bool.
        real: (B, G) bool, False beyond a clip's own instances.
    """

    labels: Tensor
    masks: Tensor
    present: Tensor
    real: Tensor

    @classmethod
    def of(cls, targets: Sequence[ClipTarget]) -> PaddedTargets:
        most = max(len(t.labels) for t in targets)
        first = targets[0]
        labels = first.labels.new_zeros(len(targets), most)
        masks = first.masks.new_zeros(len(targets), most, *first.masks.shape[1:])
        real = masks.new_zeros(len(targets), most)
        for b, target in enumerate(targets):
            labels[b, : len(target.labels)] = target.labels
            masks[b, : len(target.labels)] = target.masks
            real[b, : len(target.labels)] = True
        return cls(labels, masks, masks.flatten(3).any(-1), real)

    def as_frames(self) -> PaddedTargets:
        """B clips of T frames -> B*T clips of one frame; an instance belongs to the frames that show it (VITA)."""
        num_frames = self.masks.shape[2]
        labels = self.labels[:, None].expand(-1, num_frames, -1)
        present = fold(self.present.mT)
        return PaddedTargets(fold(labels), fold(self.masks.transpose(1, 2))[:, :, None], present[..., None], present)


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames, padded at the right and bottom to one size.

    Attributes:
        images: (B, T, 3, H, W) float32 RGB in [0, 1], zero in the padding.
        valid: (B, T, H, W) bool, False in the padding.
        targets: B targets at the padded size; empty for inference.
        digests: B x T identities of the frames' pixels without the padding; empty where nobody asks for them.
    """

    images: Tensor
    valid: Tensor
    targets: tuple[ClipTarget, ...] = ()
    digests: tuple[tuple[bytes, ...], ...] = ()

    @property
    def num_frames(self) -> int:
        return self.images.shape[1]

    def first(self, num_frames: int) -> ClipBatch:
        """The first frames of every clip, with the instances that these show."""
        targets = _shown([replace(t, masks=t.masks[:, :num_frames]) for t in self.targets])
        digests = tuple(clip[:num_frames] for clip in self.digests)
        return ClipBatch(self.images[:, :num_frames], self.valid[:, :num_frames], targets, digests)

    def tensors(self) -> list[Tensor]:
        """All that it holds."""
        return [self.images, self.valid, *(x for t in self.targets for x in (t.labels, t.ids, t.masks))]

    def to(self, device: torch.device) -> ClipBatch:
        """On a device; from pinned memory the copy goes on while the host does."""
        targets = tuple(t.to(device) for t in self.targets)
        return ClipBatch(_moved(self.images, device), _moved(self.valid, device), targets, self.digests)

    def pin_memory(self) -> ClipBatch:
        """In memory that a GPU reads by itself."""
        targets = tuple(t.pin_memory() for t in self.targets)
        return ClipBatch(self.images.pin_memory(), self.valid.pin_memory(), targets, self.digests)


def _moved(x: Tensor, device: torch.device) -> Tensor:
    return x.to(device, non_blocking=device.type != "cpu")
