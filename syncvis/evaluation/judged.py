"""What became of the tracks of videos, without their masks, and the average precision of that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from syncvis.evaluation.matching import MOST_TRACKS, THRESHOLDS, Annotated, Flags, Floats, Ints, Pairs, Ranked, match
from syncvis.evaluation.overlaps import Tracks, found_tubes, likely_pairs, truth_tubes
from syncvis.evaluation.truth import GroundTruthVideo
from syncvis.evaluation.tubes import Tube
from syncvis.predictions import Track

# Tracks whose precision is counted together, unless a class has more.
_CHUNK_TRACKS = 2**15
# Of predicted tracks that are held together.
_CHUNK_STRIPS = 2**22


@dataclass(frozen=True)
class Judged:
    """D predicted tracks, at most 100 of each class and video, and G annotated ones.

    Attributes:
        videos: (D,) ids.
        labels: (D,).
        scores: (D,).
        ranks: (D,) how many tracks of the same class and video are better.
        places: (D,) among the tracks of the video.
        hits, ignored: (A, L, D), see :class:`syncvis.evaluation.matching.Matches`.
        found: (D,) place among the annotations of the video, -1 for none; likewise.
        truth_videos: (G,) ids.
        truth_labels: (G,).
        wanted: (A, G) annotations to find.
    """

    videos: Ints
    labels: Ints
    scores: Floats
    ranks: Ints
    places: Ints
    hits: Flags
    ignored: Flags
    found: Ints
    truth_videos: Ints
    truth_labels: Ints
    wanted: Flags

    @classmethod
    def join(cls, parts: Sequence[Judged], ranges: int) -> Judged:
        """Of all parts together."""
        none, three = np.zeros(0, np.int64), np.zeros((ranges, len(THRESHOLDS), 0), bool)
        nothing = cls(none, none, np.zeros(0), none, none, three, three, none, none, none, three[:, 0])
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(p, name) for p in (nothing, *parts)], axis=-1) for name in names))

    def of_videos(self, ids: Iterable[int]) -> Judged:
        """Of some videos only."""
        wanted = np.array(list(ids), np.int64)
        tracks, truth = np.isin(self.videos, wanted), np.isin(self.truth_videos, wanted)
        of_truth = ("truth_videos", "truth_labels", "wanted")
        return Judged(*(getattr(self, f.name)[..., truth if f.name in of_truth else tracks] for f in fields(self)))

    def of_video(self, video_id: int) -> Judged:
        """Of one video only."""
        return self.of_videos([video_id])

    def by_class(self, classes: int, most: Sequence[int]) -> tuple[Floats, dict[int, Floats]]:
        """Precision (K, A, L) and, of the best so many tracks of each video, recall (K, A, L).

        Of equal scores the track of the earlier video counts as the better one.
        """
        order = np.lexsort((self.ranks, self.videos, -self.scores, self.labels))
        instances = np.zeros((classes, len(self.wanted)), np.int64)
        np.add.at(instances, self.truth_labels, self.wanted.T)
        shape = (0, len(self.wanted), len(THRESHOLDS))
        parts = list(self._ranked(order, self.labels[order], instances))
        precision = np.concatenate([np.zeros(shape), *(part.precision() for part in parts)])
        return precision, {m: np.concatenate([np.zeros(shape), *(part.recall(m) for part in parts)]) for m in most}

    def by_video(self) -> dict[int, float]:
        """AP of each video with an instance, 0 to 1: the mean over the classes that have one in it."""
        ids, video = np.unique(np.concatenate([self.truth_videos, self.videos]), return_inverse=True)
        label = np.concatenate([self.truth_labels, self.labels])
        keys, group = np.unique(np.stack([video, label]), axis=1, return_inverse=True)
        truth, tracks = group[: len(self.truth_videos)], group[len(self.truth_videos) :]
        instances = np.bincount(truth, self.wanted[0], keys.shape[1]).astype(np.int64)[:, None]
        order = np.lexsort((self.ranks, tracks))
        parts = [part.precision().mean(axis=(1, 2)) for part in self._ranked(order, tracks[order], instances)]
        precision, there = np.concatenate([np.zeros(0), *parts]), instances[:, 0] > 0
        sums, number = (np.bincount(keys[0, there], w, len(ids)) for w in (precision[there], None))
        return {int(i): float(s / n) for i, s, n in zip(ids, sums, number, strict=True) if n}

    def _ranked(self, order: Ints, groups: Ints, instances: Ints) -> Iterator[Ranked]:
        """The tracks in ``order``, of about :data:`_CHUNK_TRACKS` at a time, and the area ranges of ``instances``."""
        ends = np.searchsorted(groups, np.arange(len(instances)), side="right")
        start, begin, ranges = 0, 0, instances.shape[1]
        for group, end in enumerate(ends.tolist(), start=1):
            if end - begin >= _CHUNK_TRACKS or group == len(instances):
                some = order[begin:end]
                hits, ignored = self.hits[:ranges, :, some], self.ignored[:ranges, :, some]
                yield Ranked(groups[begin:end] - start, hits, ignored, self.ranks[some], instances[start:group])
                start, begin = group, end


def judge(videos: Sequence[tuple[GroundTruthVideo, Sequence[Track]]], ranges: Sequence[tuple[float, float]]) -> Judged:
    """Compare the tracks of some videos, which have been checked, with the annotations.

    Raises:
        DataError: A mask is damaged or of another size than its video.
    """
    truth, found = _annotations(videos), _predictions(videos)
    areas, pairs = _compare(videos, truth, found)
    group = found.group
    matches = match(areas, group, pairs, truth.annotated, ranges)
    taken = np.where(matches.found >= 0, np.append(truth.places, -1)[matches.found], -1)
    wanted = ~truth.annotated.ignored(ranges)
    ids = np.array([video.id for video, _ in videos], np.int64)
    return Judged(
        ids[found.videos], found.labels, found.scores, found.ranks, found.places, matches.hits, matches.ignored, taken,
        ids[truth.videos], truth.labels, wanted,
    )  # fmt: skip


@dataclass(frozen=True)
class _Truth:
    """(G,) each: place of its video, class, place in the video."""

    videos: Ints
    labels: Ints
    places: Ints
    annotated: Annotated
    tracks: Tracks


@dataclass(frozen=True)
class _Found:
    """(D,) each: place of its video, class, score, better tracks of its class and video, place in the video."""

    videos: Ints
    labels: Ints
    scores: Floats
    ranks: Ints
    places: Ints

    @property
    def group(self) -> Ints:
        """A number for each class and video."""
        return np.cumsum(self.ranks == 0)


def _annotations(videos: Sequence[tuple[GroundTruthVideo, Sequence[Track]]]) -> _Truth:
    tracks = Tracks([tube for video, _ in videos for tube in truth_tubes(video)])
    rows = [(n, t.label, g, t) for n, (video, _) in enumerate(videos) for g, t in enumerate(video.tracks)]
    of_video, labels, places = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3).T
    annotated = [row[3] for row in rows]
    areas = tracks.mean_areas()
    for g, track in enumerate(annotated):
        if track.areas is not None:
            seen = [area for area in track.areas if area]
            areas[g] = np.add.reduce(seen) / len(seen) if seen else 0.0
    crowds = np.array([track.iscrowd for track in annotated], bool)
    countable = np.array([track.id != 0 for track in annotated], bool)
    return _Truth(of_video, labels, places, Annotated(areas, crowds, countable), tracks)


def _predictions(videos: Sequence[tuple[GroundTruthVideo, Sequence[Track]]]) -> _Found:
    """The best tracks, class by class in each video."""
    rows = [(n, t.label, d, t.score) for n, (_, tracks) in enumerate(videos) for d, t in enumerate(tracks)]
    of_video, labels, places = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3).T
    scores = np.array([row[3] for row in rows], float)
    order = np.lexsort((places, -scores, labels, of_video))
    of_video, labels = of_video[order], labels[order]
    begins = np.flatnonzero((np.diff(of_video, prepend=-1) != 0) | (np.diff(labels, prepend=-1) != 0))
    ranks = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    best = ranks < MOST_TRACKS
    order = order[best]
    return _Found(of_video[best], labels[best], scores[order], ranks[best], places[order])


def _compare(
    videos: Sequence[tuple[GroundTruthVideo, Sequence[Track]]], truth: _Truth, found: _Found
) -> tuple[Floats, Pairs]:
    """Mean areas of the predicted tracks, and the pairs that can be matched."""
    every = _same_class(found, truth)
    areas, parts = np.zeros(len(found.videos)), []
    for where, tubes in _chunks(videos, found):
        tracks = Tracks(tubes)
        areas[where] = tracks.mean_areas()
        place = np.full(len(areas), -1)
        place[where] = np.arange(len(where))
        now = place[every[0]] >= 0
        pairs = likely_pairs(tracks, truth.tracks, place[every[0][now]], every[1][now])
        parts.append(Pairs(where[pairs.found], pairs.truth, pairs.ious))
    d = np.concatenate([np.zeros(0, np.int64), *(p.found for p in parts)])
    g = np.concatenate([np.zeros(0, np.int64), *(p.truth for p in parts)])
    return areas, Pairs(d, g, np.concatenate([np.zeros(0), *(p.ious for p in parts)]))


def _same_class(found: _Found, truth: _Truth) -> tuple[Ints, Ints]:
    """All pairs of a predicted and an annotated track of the same class and video."""
    classes = 1 + max(found.labels.max(initial=0), truth.labels.max(initial=0))
    own, other = found.videos * classes + found.labels, truth.videos * classes + truth.labels
    order = np.argsort(other, kind="stable")
    low, high = (np.searchsorted(other[order], own, side=side) for side in ("left", "right"))
    number = high - low
    d = np.repeat(np.arange(len(own)), number)
    return d, order[np.arange(len(d)) - np.repeat(np.cumsum(number) - number - low, number)]


def _chunks(
    videos: Sequence[tuple[GroundTruthVideo, Sequence[Track]]], found: _Found
) -> Iterator[tuple[Ints, list[Tube]]]:
    """The tubes of the predicted tracks and where they stand in ``found``, so many that they can be held."""
    where = {key: n for n, key in enumerate(zip(found.videos.tolist(), found.places.tolist(), strict=True))}
    chunk: dict[int, Tube] = {}
    strips = 0
    for n, (video, tracks) in enumerate(videos):
        for place, tube in found_tubes(video, tracks):
            if (n, place) in where:
                chunk[where[n, place]] = tube
                strips += len(tube.sheet.edges) * tube.length // len(tube.sheet.areas)
            if strips > _CHUNK_STRIPS:
                yield np.array(list(chunk)), list(chunk.values())
                chunk, strips = {}, 0
    if chunk:
        yield np.array(list(chunk)), list(chunk.values())
