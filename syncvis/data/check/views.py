"""What the rules look at: the whole file, a video with its frames and tracks, one track."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from syncvis.data.check.entries import Entry, Json, Size, by_id, entries, identifier, listed, show, video_size
from syncvis.data.check.findings import Problem
from syncvis.data.check.forms import Form
from syncvis.data.check.images import FrameLooker, Look
from syncvis.data.check.masks import Mask, read_mask
from syncvis.data.video_file import frame_names
from syncvis.data.ytvis import find_video_file, is_one_file
from syncvis.errors import DataError


@dataclass(frozen=True)
class Track:
    """An annotation of a known video.

    Attributes:
        masks: one per entry of ``segmentations``; None where there is no mask or it cannot be read.
        problems: what is wrong with each mask.
    """

    annotation: Entry
    size: Size | None
    num_frames: int
    masks: tuple[Mask | None, ...]
    problems: tuple[Problem | None, ...]

    def known(self, t: int) -> bool:
        """Whether it is clear what boxes and areas have to be in frame ``t``."""
        mask = self.masks[t]
        return mask.area > 0 if mask else self.annotation.raw["segmentations"][t] is None

    @property
    def has_all_masks(self) -> bool:
        """Whether there is one mask, or null, per frame."""
        return len(self.masks) == self.num_frames

    @property
    def complete(self) -> bool:
        """Whether it is clear in every frame of the video."""
        return self.has_all_masks and all(map(self.known, range(len(self.masks))))

    @property
    def mask_sizes(self) -> set[Any]:
        """The sizes that the RLEs claim."""
        sizes = [mask.get("size") for mask in listed(self.annotation, "segmentations") if isinstance(mask, dict)]
        return {tuple(size) for size in sizes if isinstance(size, list) and all(type(side) is int for side in size)}


@dataclass(frozen=True)
class Clip:
    """A video with what was seen of its frames, and its tracks; ``problem`` is that of its video file or its length."""

    video: Entry
    size: Size | None
    frames: tuple[Look, ...]
    tracks: tuple[Track, ...]
    problem: Problem | None = None

    def place(self, t: int) -> tuple[str | int, ...]:
        """Where a frame is named."""
        return ("file_name",) if is_one_file(self.video.raw) else ("file_names", t)

    @property
    def image_sizes(self) -> set[Size]:
        return {look.size for look in self.frames if look.size is not None}

    @property
    def agreed_size(self) -> Size | None:
        """The size that all images and all masks have; None if there are several, or none."""
        sizes = set(self.image_sizes).union(*(track.mask_sizes for track in self.tracks))
        return sizes.pop() if len(sizes) == 1 else None


@dataclass(frozen=True)
class Tree:
    """The whole JSON file."""

    raw: Json

    @cached_property
    def form(self) -> Form:
        return Form.of(self.raw)

    @cached_property
    def categories(self) -> tuple[Entry, ...]:
        return entries(self.raw, "categories")

    @cached_property
    def videos(self) -> tuple[Entry, ...]:
        return entries(self.raw, "videos")

    @cached_property
    def annotations(self) -> tuple[Entry, ...]:
        return entries(self.raw, "annotations")

    def clips(self, looker: FrameLooker, source: Path) -> Iterator[Clip]:
        """The videos of the file ``source`` one after the other; masks are read when a video's turn comes."""
        owners, members = by_id(self.videos), defaultdict(list)
        for annotation in self.annotations:
            members[identifier(annotation.raw.get("video_id"))].append(annotation)
        for video in self.videos:
            own = members[video.id] if video.id is not None and owners[video.id] is video else []
            names, length, problem = _names(video, looker, source)
            frames = tuple(map(looker.look, names))
            size = video_size(video)
            tracks = tuple(_track(annotation, size, {len(frames), length}) for annotation in own)
            yield Clip(video, size, frames, tracks, problem)


def _names(video: Entry, looker: FrameLooker, source: Path) -> tuple[list[Any], int, Problem | None]:
    """The names of the frames that are there, how many should be, and what is wrong with a video file or its length."""
    names = listed(video, "file_names")
    if not is_one_file(video.raw) or looker.root is None:
        return names, len(names), None
    try:
        named = find_video_file(video.raw, source, video.key(), looker.root)
    except DataError as error:
        return [], 0, Problem("video-file", f"{error.problem} ({error.key or error.file})")
    if named.there is None:
        return (
            [],
            named.length,
            Problem("video-file", f"there is no file {show(str(looker.root / named.name), most=300)}"),
        )
    names = frame_names(named.name, min(named.length, named.there))
    if named.length > named.there:
        return names, named.length, Problem("video-length", named.too_long)
    part = Problem("video-part", f"length is {named.length}, the video has {named.there} frames: the rest is not read")
    return names, named.length, part if named.length < named.there else None


def _track(annotation: Entry, size: Size | None, lengths: set[int]) -> Track:
    """Of a video whose frames can be counted in two ways, which is a finding of its own, either number is right."""
    masks = listed(annotation, "segmentations")
    num_frames = len(masks) if len(masks) in lengths else min(lengths - {0}, default=len(masks))
    read = [read_mask(segmentation, size) for segmentation in masks]
    return Track(annotation, size, num_frames, tuple(mask for mask, _ in read), tuple(problem for _, problem in read))
