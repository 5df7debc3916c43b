"""Several data sets in one training: which of them, and which of its videos, a clip comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncvis.config import DataConfig, MixConfig
from syncvis.data.coco import load_coco
from syncvis.data.coco_names import plain
from syncvis.data.ytvis import Category, Video, VideoDataset
from syncvis.errors import DataError

# Keys that keep the random streams apart; clips have another (see loader).
_EPOCH, _SOURCE = 0, 2

_BLOCK = 4096


@dataclass(frozen=True)
class Source:
    """One data set of a training.

    Attributes:
        ratio: its share of the clips, relative to those of the other sources.
        pseudo: its videos of one frame become moving clips (``data.pseudo``).
    """

    dataset: VideoDataset
    ratio: float = 1.0
    pseudo: bool = False


class Order:
    """From which video each clip of an endless training comes.

    The source of every clip is drawn on its own with the sources' ratios, so that each batch holds them in these
    proportions on average, whoever asks for which part of it. (SyncVIS and VITA draw likewise, but their common pool
    makes each local batch come from one data set: data/combined_loader.py.) Within a source every video is seen once
    per epoch, in an order of its own.
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.sources, self.seed = tuple(sources), seed
        self._choice = _Choice([source.ratio for source in sources], seed)
        self._kept: dict[tuple[int, int], NDArray[np.int64]] = {}

    def __call__(self, position: int) -> tuple[Source, Video]:
        """The source and video of a clip by its number, the same whenever it is asked for."""
        number, place = self._choice(position) if len(self.sources) > 1 else (0, position)
        source = self.sources[number]
        epoch, index = divmod(place, len(source.dataset.videos))
        return source, source.dataset.videos[int(self._permutation(number, epoch)[index])]

    def _permutation(self, number: int, epoch: int) -> NDArray[np.int64]:
        """The order of a source's videos in an epoch; a few are kept, since neighbouring clips share them."""
        if (number, epoch) not in self._kept:
            if len(self._kept) >= 2 * len(self.sources):
                self._kept.clear()
            # numpy takes (a, b) and (a, b, 0) for the same: the first source has the order that it has alone.
            rng = np.random.default_rng(np.random.SeedSequence((self.seed, _EPOCH, epoch, number)))
            self._kept[number, epoch] = rng.permutation(len(self.sources[number].dataset.videos))
        return self._kept[number, epoch]


class _Choice:
    """Independent draws among up to 256 ratios, and how many equal draws come before each.

    Draws come in blocks, each from a generator of its own, of one byte a draw.
    """

    def __init__(self, ratios: Sequence[float], seed: int) -> None:
        self.seed = seed
        self._bounds = (np.cumsum(ratios) / np.sum(ratios))[:-1]
        self._blocks: list[NDArray[np.uint8]] = []
        self._before = [np.zeros(len(ratios), int)]

    def __call__(self, position: int) -> tuple[int, int]:
        """What the draw of this number gives, and how many draws before it gave the same."""
        block, index = divmod(position, _BLOCK)
        while len(self._blocks) <= block:
            self._draw_next_block()
        drawn = self._blocks[block]
        number = int(drawn[index])
        return number, int(self._before[block][number] + (drawn[:index] == number).sum())

    def _draw_next_block(self) -> None:
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, _SOURCE, len(self._blocks))))
        drawn = np.searchsorted(self._bounds, rng.random(_BLOCK), side="right").astype(np.uint8)
        self._blocks.append(drawn)
        self._before.append(self._before[-1] + np.bincount(drawn, minlength=len(self._before[0])))


def sources_of(ratios: Sequence[float], seed: int, clips: int) -> list[int]:
    """From which data set each of the first clips of a training comes, by its place in the ratios."""
    choice = _Choice(ratios, seed)
    return [choice(position)[0] for position in range(clips)]


def load_mix(config: DataConfig, categories: Sequence[Category]) -> list[VideoDataset]:
    """Read the data sets of ``config.mix``, with labels of ``categories``.

    Raises:
        DataError: One cannot be read, or shares no class with the data set that is trained on.
    """
    return [load_mixed(mixed, tuple(categories)) for mixed in config.mix]


def load_mixed(mixed: MixConfig, categories: tuple[Category, ...]) -> VideoDataset:
    """One of them; see :func:`load_mix`."""
    if mixed.format == "coco":
        return load_coco(Path(mixed.root), mixed.train, categories)
    return relabelled(VideoDataset.load(mixed.root, mixed.train), categories)


def relabelled(dataset: VideoDataset, categories: tuple[Category, ...]) -> VideoDataset:
    """The same videos with the labels of ``categories``, found by name; case, ``_`` and ``-`` do not count.

    Instances of other classes are left out, and so are videos that only have such.

    Raises:
        DataError: No instance is of any of these classes.
    """
    places = {plain(category.name): label for label, category in enumerate(categories)}
    found = dataset.relabelled(categories, [places.get(plain(category.name), -1) for category in dataset.categories])
    if not found.videos:
        fix = "name its classes as in data.train, or remove it from data.mix"
        raise DataError("has no instance of the classes of data.train", file=dataset.source, key="categories", fix=fix)
    return found
