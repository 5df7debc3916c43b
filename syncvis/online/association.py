"""Detections of single frames -> tracks: the tracker that IDOL introduced (arXiv 2207.10661) and CTVIS took over.

A detection continues the track whose memory it resembles most, best detections first; one that resembles none opens a
track. Two habits of the published code are kept: with one track in memory every detection resembles it, and a single
detection resembles a track, whatever the embeddings are, since a softmax over one entry is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncvis.online.detections import Detections
from syncvis.online.memory import Memory


@dataclass(frozen=True)
class TrackerSettings:
    """When tracks continue, begin and end.

    Attributes:
        match: a detection continues a track if their similarity is above this one, at least 0.
        open_first: score above which a detection opens a track while there is none in memory.
        open: the same later on, for detections that continue no track.
        patience: a track that was not seen for more than this number of frames is forgotten.
        settled: from this frame on (counted from 0), short tracks leave the result ...
        short: ... which are those seen in fewer frames than this ...
        missed: ... and not in the last frames, this many.
    """

    match: float
    open_first: float
    open: float
    patience: int
    settled: int = 9
    short: int = 3
    missed: int = 2


@dataclass(frozen=True)
class Tracks:
    """R tracks of a video of T frames.

    Attributes:
        ids: (R,) int64, the numbers that :meth:`Tracker.step` gave them.
        classes: (R, K) mean over the frames of a track.
        query: (T, R) int64, the query that carries the track in each frame; -1 where it is not seen.
    """

    ids: Tensor
    classes: Tensor
    query: Tensor

    @property
    def seen(self) -> Tensor:
        """(T, R) bool."""
        return self.query >= 0


@dataclass
class _Entry:
    """A track in memory, and the frame in which it was last seen."""

    memory: Memory
    last: int


@dataclass
class _Sightings:
    """A track in the result: the query and its class values, by frame."""

    query: dict[int, int] = field(default_factory=dict)
    classes: list[Tensor] = field(default_factory=list)


class Tracker:
    """The tracks of one video, frame by frame. It works on the CPU, whatever the detections lie on.

    Args:
        settings: thresholds.
        memory: makes the empty memory of a new track.
    """

    def __init__(self, settings: TrackerSettings, memory: Callable[[], Memory]) -> None:
        self.settings, self.memory = settings, memory
        self._frame = self._opened = self._num_classes = 0
        self._entries: dict[int, _Entry] = {}
        self._tracks: dict[int, _Sightings] = {}

    def step(self, detections: Detections) -> list[int]:
        """Track the detections of the next frame.

        Args:
            detections: best first, no two of one object.

        Returns:
            For each detection the id of its track, or -1.
        """
        scores, embeddings = detections.scores.detach().tolist(), detections.embeddings.detach().float().cpu()
        ids = self._identify(scores, embeddings)
        classes, queries = detections.classes.detach().float().cpu(), detections.query.tolist()
        self._num_classes = classes.shape[1]
        for index, track in enumerate(ids):
            if track >= 0:
                self._remember(track, embeddings[index], scores[index])
                sightings = self._tracks.setdefault(track, _Sightings())
                sightings.query[self._frame] = queries[index]
                sightings.classes.append(classes[index])
        self._forget()
        self._frame += 1
        return ids

    def tracks(self) -> Tracks:
        """All tracks so far, in the order in which they began."""
        query = torch.full((self._frame, len(self._tracks)), -1)
        classes = torch.zeros(len(self._tracks), self._num_classes)
        for row, sightings in enumerate(self._tracks.values()):
            query[list(sightings.query), row] = torch.tensor(list(sightings.query.values()))
            classes[row] = torch.stack(sightings.classes).mean(0)
        return Tracks(torch.tensor(list(self._tracks), dtype=torch.int64), classes, query)

    def _identify(self, scores: Sequence[float], embeddings: Tensor) -> list[int]:
        ids, threshold = [-1] * len(scores), self.settings.open_first
        if self._entries:
            known, threshold = list(self._entries), self.settings.open
            memories = [entry.memory for entry in self._entries.values()]
            similarity = bisoftmax(embeddings, torch.stack([memory.embedding for memory in memories]))
            seen = torch.tensor([memory.seen for memory in memories])
            chosen = greedy(similarity, seen, self.settings.match)
            ids = [known[entry] if entry >= 0 else -1 for entry in chosen]
        for index, score in enumerate(scores):
            if ids[index] < 0 and score > threshold:
                ids[index] = self._opened
                self._opened += 1
        return ids

    def _remember(self, track: int, embedding: Tensor, score: float) -> None:
        entry = self._entries.setdefault(track, _Entry(self.memory(), self._frame))
        entry.memory.update(embedding, score)
        entry.last = self._frame

    def _forget(self) -> None:
        """Tracks unseen for long leave the memory; short ones leave the result only, and can come back without it."""
        rules, now = self.settings, self._frame
        self._entries = {k: entry for k, entry in self._entries.items() if now - entry.last <= rules.patience}
        if now >= rules.settled:
            self._tracks = {
                k: track
                for k, track in self._tracks.items()
                if len(track.query) >= rules.short or now - max(track.query) < rules.missed
            }


def bisoftmax(detections: Tensor, memories: Tensor) -> Tensor:
    """Similarity (D, E) of embeddings (D, C) and (E, C): mean of the softmax over memories and that over detections."""
    products = detections @ memories.T
    return (products.softmax(1) + products.softmax(0)) / 2


def greedy(similarity: Tensor, seen: Tensor, threshold: float) -> list[int]:
    """Give each detection the best memory that is left.

    Of several memories above the threshold, the similarity times the number of frames seen decides.

    Args:
        similarity: (D, E), best detections first.
        seen: (E,) in how many frames each memory was seen.
        threshold: a memory must be above it; at least 0.

    Returns:
        For each detection the memory, or -1; no memory twice.
    """
    chosen, free = [], torch.ones(len(seen), dtype=torch.bool)
    for row in similarity:
        close = free & (row > threshold)
        best = int((row * seen * close).argmax())
        chosen.append(best if close[best] else -1)
        free[best] &= not close[best]
    return chosen
