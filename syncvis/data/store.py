"""All videos and tracks of an annotation file in a few arrays.

An object per mask would cost several times the mask itself, and processes that are forked from one that has read the
file would copy all of it: Python counts references inside the objects. Here there are no such objects; a video and its
tracks are made when they are asked for.
"""

from __future__ import annotations

import copy
import math
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from syncvis.data.annotations import TrackAnnotation, Video
from syncvis.data.segmentations import Packed, unpack

Ints = NDArray[np.int64]


class Pieces:
    """Many short byte strings in one buffer."""

    def __init__(self) -> None:
        self._buffer, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._buffer[self._ends[index] : self._ends[index + 1]])

    def append(self, piece: bytes) -> None:
        self._buffer += piece
        self._ends.append(len(self._buffer))

    @property
    def nbytes(self) -> int:
        """Bytes that the buffer and the places in it take."""
        return len(self._buffer) + self._ends.itemsize * len(self._ends)


class Store:
    """Videos and tracks, by row.

    Args:
        where: what errors call a track: the file and the list its annotations stand in.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._names, self._masks, self._kinds = Pieces(), Pieces(), bytearray()
        # One row per video: id, height, width, end of its frames among all names.
        self._videos = array("q")
        # One row per track: id, label, is it a crowd, row of its video, start of its masks, place in the JSON.
        self._tracks = array("q")
        self._mean_areas = array("d")  # of each track, NaN where the file gives none
        self._order, self._first = np.zeros(0, np.int64), np.zeros(1, np.int64)

    def add_video(self, video_id: int, height: int, width: int, file_names: Iterable[str]) -> None:
        """Add a video below the others."""
        for name in file_names:
            self._names.append(name.encode())
        self._videos.extend((video_id, height, width, len(self._names)))

    def add_track(
        self,
        track_id: int,
        label: int,
        iscrowd: bool,
        video: int,
        place: int,
        masks: Iterable[Packed],
        mean_area: float = math.nan,
    ) -> None:
        """Add a track of the video in row ``video`` with one mask per frame; ``place`` is its index in the JSON."""
        self._mean_areas.append(mean_area)
        self._tracks.extend((track_id, label, iscrowd, video, len(self._masks), place))
        for kind, packed in masks:
            self._kinds.append(kind)
            self._masks.append(packed)

    def close(self) -> None:
        """Sort the tracks by video; only then can videos be read."""
        of_video = self.track_table[:, 3]
        self._order = np.argsort(of_video, kind="stable")
        self._first = np.searchsorted(of_video[self._order], np.arange(len(self.video_table) + 1))

    def relabelled(self, labels: Sequence[int]) -> Store:
        """The same videos and masks with label ``labels[l]`` for l; tracks with a negative one are left out."""
        table = self.track_table.copy()
        table[:, 1] = np.asarray(labels, np.int64)[table[:, 1]]
        changed = copy.copy(self)
        kept = table[:, 1] >= 0
        changed._tracks = array("q", table[kept].tobytes())
        changed._mean_areas = array("d", np.frombuffer(self._mean_areas)[kept].tobytes())
        changed.close()
        return changed

    @property
    def video_table(self) -> Ints:
        """(V, 4): id, height, width, end of the frames."""
        return np.frombuffer(self._videos, np.int64).reshape(-1, 4)

    @property
    def track_table(self) -> Ints:
        """(N, 6): id, label, iscrowd, row of the video, start of the masks, index in the JSON."""
        return np.frombuffer(self._tracks, np.int64).reshape(-1, 6)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that grows with the number of annotations."""
        tables = sum(table.nbytes for table in (self.video_table, self.track_table, self._order, self._first))
        tables += self._mean_areas.itemsize * len(self._mean_areas)
        return tables + self._names.nbytes + self._masks.nbytes + len(self._kinds)

    def video(self, row: int) -> Video:
        """The video of a row, with its tracks."""
        video_id, height, width, end = self.video_table[row].tolist()
        start = int(self.video_table[row - 1, 3]) if row else 0
        names = tuple(self._names[i].decode() for i in range(start, end))
        rows = self._order[self._first[row] : self._first[row + 1]].tolist()
        tracks = tuple(self._track(k, height, width, len(names)) for k in rows)
        return Video(video_id, height, width, names, tracks)

    def _track(self, row: int, height: int, width: int, length: int) -> TrackAnnotation:
        track_id, label, iscrowd, _, start, place = self.track_table[row].tolist()
        masks = StoredMasks(self, range(start, start + length), height, width)
        where, area = f"{self._where}[{place}]", self._mean_areas[row]
        known = None if math.isnan(area) else area
        return TrackAnnotation(track_id, label, bool(iscrowd), height, width, masks, where, known)

    def segmentation(self, index: int, height: int, width: int) -> Any:
        """The mask at one place of all masks, as in a JSON file."""
        return unpack(self._kinds[index], self._masks[index], height, width)


@dataclass(frozen=True)
class StoredMasks(Sequence[Any]):
    """The masks of a track, unpacked when they are asked for; reads like a tuple of what stands in the JSON."""

    store: Store
    places: range
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> StoredMasks: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return StoredMasks(self.store, self.places[index], self.height, self.width)
        return self.store.segmentation(self.places[index], self.height, self.width)


@dataclass(frozen=True, eq=False)
class StoredVideos(Sequence[Video]):
    """Some videos of a store, made when they are asked for; reads like a tuple of them."""

    store: Store
    rows: Ints

    @property
    def ids(self) -> list[int]:
        """The ids of the videos, without making them."""
        return self.store.video_table[self.rows, 0].tolist()

    def only(self, ids: Collection[int]) -> StoredVideos:
        """Those with one of these ids."""
        return StoredVideos(self.store, self.rows[np.isin(self.ids, list(ids))])

    def relabelled(self, labels: Sequence[int]) -> StoredVideos:
        """Those with a track left when label l becomes ``labels[l]`` and tracks with a negative one go."""
        store = self.store.relabelled(labels)
        return StoredVideos(store, self.rows[np.isin(self.rows, store.track_table[:, 3])])

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Video]:
        return (self.store.video(row) for row in self.rows.tolist())

    @overload
    def __getitem__(self, index: int) -> Video: ...
    @overload
    def __getitem__(self, index: slice) -> StoredVideos: ...
    def __getitem__(self, index: int | slice) -> Video | StoredVideos:
        if isinstance(index, slice):
            return StoredVideos(self.store, self.rows[index])
        return self.store.video(int(self.rows[index]))
