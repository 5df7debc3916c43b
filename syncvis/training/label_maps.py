"""One frame with its annotated and predicted instances as label maps, for viewers that lay masks over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from syncvis.errors import StorageError
from syncvis.files import write_atomically
from syncvis.visualization import Masks, Pixels

MAX_LABELS = 255


@dataclass(frozen=True)
class LabelMaps:
    """A frame and what is where in it; label n, from 1, is the n-th name, 0 is nothing.

    They fit ``wandb.Image(frame, masks=maps.overlays())``.

    Attributes:
        frame: (H, W, 3) uint8 RGB.
        truth, prediction: (H, W) uint8 labels.
        truth_names, prediction_names: one name per track, such as "dog #2", "dog #1 0.87".
    """

    frame: Pixels
    truth: Pixels
    prediction: Pixels
    truth_names: tuple[str, ...]
    prediction_names: tuple[str, ...]

    def overlays(self) -> dict[str, dict[str, object]]:
        """``mask_data`` and ``class_labels`` of "truth" and "prediction"."""
        maps = {"truth": (self.truth, self.truth_names), "prediction": (self.prediction, self.prediction_names)}
        return {
            name: {"mask_data": labels, "class_labels": dict(enumerate(names, 1))}
            for name, (labels, names) in maps.items()
        }

    def save(self, path: Path) -> None:
        """Write a compressed npz of the attributes."""
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items()}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> LabelMaps:
        """Read what ``save`` wrote.

        Raises:
            StorageError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays: dict[str, Any] = dict(stored)
            names = {name: tuple(arrays[name].tolist()) for name in ("truth_names", "prediction_names")}
            return cls(**arrays | names)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise StorageError(f"cannot be read as label maps ({error})", file=path, fix="delete it") from None


def label_map(masks: Masks, order: Sequence[int], size: tuple[int, int]) -> Pixels:
    """(G, H, W) masks -> (H, W) labels 1 .. G; in the order given, later ones lie on top."""
    labels = np.zeros(size, np.uint8)
    for n in order:
        labels[masks[n]] = n + 1
    return labels
