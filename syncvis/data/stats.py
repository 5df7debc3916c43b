"""What a data set holds, in numbers: the measures of the paper's data-set table, and what helps to judge a split.

A track is an entry of ``annotations``, and every track counts as an instance, also a crowd and one that is never
seen; both are reported. A mask is a frame of a track with a segmentation that has a pixel. Means over frames and videos
include those without any instance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from syncvis.data.annotations import class_names
from syncvis.data.segmentations import runs_of_ones
from syncvis.data.ytvis import Category, TrackAnnotation, Video, VideoDataset

TOGETHER = "together"


@dataclass(frozen=True)
class Spread:
    """Some numbers in four."""

    min: float
    mean: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None for no numbers."""
        if not values:
            return None
        return cls(min(values), sum(values) / len(values), median(values), max(values))


@dataclass(frozen=True)
class Holding:
    """What there is of one category."""

    instances: int = 0
    masks: int = 0

    def __add__(self, other: Holding) -> Holding:
        return Holding(self.instances + other.instances, self.masks + other.masks)


@dataclass(frozen=True)
class Statistics:
    """The counts of one JSON file, or of several.

    Attributes:
        name: the JSON file's name.
        lengths: frames of each video.
        objects: tracks of each video.
        durations: frames in which each track has a mask; 0 for one that is never seen.
        crowds: tracks marked as crowds.
        categories: what there is of each category, by its name.
        sizes: videos of each height and width in pixels.
        areas: share of the frame that each mask covers.
        blank: masks without a pixel; such a mask counts as absent.
        fingerprints: the frames' names of each video, to find videos that are listed twice.
    """

    name: str
    lengths: tuple[int, ...]
    objects: tuple[int, ...]
    durations: tuple[int, ...]
    crowds: int
    categories: Mapping[str, Holding]
    sizes: Mapping[tuple[int, int], int]
    areas: tuple[float, ...]
    blank: int
    fingerprints: tuple[tuple[str, ...], ...]

    @property
    def videos(self) -> int:
        """Number of videos."""
        return len(self.lengths)

    @property
    def repeated(self) -> int:
        """Videos whose frames an earlier video names as well."""
        return self.videos - len(set(self.fingerprints))

    def summary(self) -> dict[str, Any]:
        """All measures as plain numbers; a spread of nothing is None."""
        masks, frames = sum(self.durations), sum(self.lengths)
        instances = len(self.durations)
        return {
            "name": self.name,
            "videos": self.videos,
            "categories": len(self.categories),
            "categories_used": sum(held.instances > 0 for held in self.categories.values()),
            "instances": instances,
            "masks": masks,
            "frames": frames,
            "masks_per_frame": masks / frames,
            "objects_per_video": instances / self.videos,
            "objects_per_video_max": max(self.objects),
            "video_length": _plain(Spread.of(self.lengths)),
            "instance_duration": _plain(Spread.of([duration for duration in self.durations if duration])),
            "never_seen": self.durations.count(0),
            "crowds": self.crowds,
            "crowd_share": self.crowds / instances if instances else 0.0,
            "blank_masks": self.blank,
            "mask_area": _plain(Spread.of(self.areas)),
            "frame_sizes": {f"{h}x{w}": n for (h, w), n in sorted(self.sizes.items())},
            "repeated_videos": self.repeated,
            "per_category": {name: asdict(held) for name, held in self.categories.items()},
        }


def _plain(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)


def count(dataset: VideoDataset) -> Statistics:
    """Count a data set.

    Raises:
        DataError: A mask is damaged.
    """
    tracks = [track for video in dataset.videos for track in video.tracks]
    durations = tuple(map(_duration, tracks))
    return Statistics(
        name=dataset.source.name,
        lengths=tuple(map(len, dataset.videos)),
        objects=tuple(len(video.tracks) for video in dataset.videos),
        durations=durations,
        crowds=sum(track.iscrowd for track in tracks),
        categories=_holdings(dataset.categories, tracks, durations),
        sizes=Counter(map(_size, dataset.videos)),
        areas=tuple(area for track in tracks for area in _areas(track)),
        blank=sum(track.blank for track in tracks),
        fingerprints=tuple(video.file_names for video in dataset.videos),
    )


def _holdings(
    categories: Sequence[Category], tracks: Sequence[TrackAnnotation], durations: Sequence[int]
) -> dict[str, Holding]:
    names = class_names(categories)
    found = dict.fromkeys(names, Holding())
    for track, duration in zip(tracks, durations, strict=True):
        found[names[track.label]] += Holding(1, duration)
    return found


def _size(video: Video) -> tuple[int, int]:
    return video.height, video.width


def _duration(track: TrackAnnotation) -> int:
    return sum(map(track.has_mask, range(len(track.segmentations))))


def _areas(track: TrackAnnotation) -> list[float]:
    """Of the frames with a mask."""
    masks = [(mask, track.place(t)) for t, mask in enumerate(track.segmentations) if mask]
    runs = runs_of_ones(masks, track.height, track.width)
    return [float((stops - starts).sum()) / (track.height * track.width) for starts, stops in runs]


def combine(parts: Sequence[Statistics], name: str = TOGETHER) -> Statistics:
    """The counts of all parts as one; categories of the same name are one category."""
    categories: dict[str, Holding] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    for part in parts:
        sizes.update(part.sizes)
        for category, held in part.categories.items():
            categories[category] = categories.get(category, Holding()) + held
    return Statistics(
        name=name,
        lengths=tuple(n for part in parts for n in part.lengths),
        objects=tuple(n for part in parts for n in part.objects),
        durations=tuple(n for part in parts for n in part.durations),
        crowds=sum(part.crowds for part in parts),
        categories=categories,
        sizes=sizes,
        areas=tuple(area for part in parts for area in part.areas),
        blank=sum(part.blank for part in parts),
        fingerprints=tuple(names for part in parts for names in part.fingerprints),
    )
